"""Elastic Load Balancing of a whole sandbox: set up with boto3, obeyed by the balancer."""

import contextlib
import http.client
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from apps.sandbox.demo.services import free_port
from apps.sandbox.protocol import serialize_output, service_model

pytestmark = pytest.mark.integration

WITHIN = 60.0  # seconds


class App(BaseHTTPRequestHandler):
    """Says its server's name; ready as its server is."""

    def do_GET(self):
        ready = self.path != "/readyz" or self.server.ready
        body = self.server.name.encode()
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Keep quiet."""


@contextlib.contextmanager
def app(name):
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    server.name, server.ready = name, True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Web:
    """A network load balancer, its listener and its target group, made with boto3."""

    def __init__(self, sandbox, name):
        self.elb, self.ec2 = sandbox.client("elbv2"), sandbox.client("ec2")
        subnet = self.ec2.describe_subnets()["Subnets"][0]
        self.group = self.elb.create_target_group(
            Name=name,
            Protocol="TCP",
            Port=80,
            VpcId=subnet["VpcId"],
            HealthCheckProtocol="HTTP",
            HealthCheckPath="/readyz",
            HealthCheckIntervalSeconds=5,
            HealthCheckTimeoutSeconds=5,
            HealthyThresholdCount=2,
            UnhealthyThresholdCount=2,
        )["TargetGroups"][0]["TargetGroupArn"]
        self.balancer = self.elb.create_load_balancer(
            Name=name, Type="network", Subnets=[subnet["SubnetId"]]
        )["LoadBalancers"][0]["LoadBalancerArn"]

    def listen(self, port):
        return self.elb.create_listener(
            LoadBalancerArn=self.balancer,
            Protocol="TCP",
            Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.group}],
        )["Listeners"][0]

    def run_instance(self):
        made = self.ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)
        return made["Instances"][0]["InstanceId"]

    def register(self, name, port):
        self.elb.register_targets(TargetGroupArn=self.group, Targets=[{"Id": name, "Port": port}])

    def deregister(self, name):
        self.elb.deregister_targets(TargetGroupArn=self.group, Targets=[{"Id": name}])

    def health(self, **arguments):
        """What DescribeTargetHealth says, held against the model: {target's id: description}."""
        answer = self.elb.describe_target_health(TargetGroupArn=self.group, **arguments)
        model = service_model("elbv2").operation_model("DescribeTargetHealth")
        del answer["ResponseMetadata"]
        serialize_output(model.output_shape, answer)
        return {each["Target"]["Id"]: each for each in answer["TargetHealthDescriptions"]}

    def wait_until(self, name, state):
        deadline = time.monotonic() + WITHIN
        while (found := self.health()[name]["TargetHealth"])["State"] != state:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found


@pytest.fixture
def web(sandbox, request):
    return Web(sandbox, f"web-{abs(hash(request.node.name)) % 10**8}")


def get(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read().decode()


def answers(port):
    try:
        return bool(get(port))
    except (OSError, http.client.HTTPException):
        return False


def refused(code, call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code
    return caught.value.response["Error"]["Message"]


def test_instances_behind_a_listener_answer_in_turn_and_drain(web):
    with app("one") as one, app("two") as two:
        port = web.listen(free_port())["Port"]
        names = [web.run_instance(), web.run_instance()]
        for name, server in zip(names, (one, two), strict=True):
            web.register(name, server.server_port)
            web.wait_until(name, "healthy")
        assert sorted(get(port) for _ in range(4)) == ["one", "one", "two", "two"]
        web.deregister(names[0])
        assert {get(port) for _ in range(4)} == {"two"}
        told = web.health()
        assert told[names[0]]["TargetHealth"] == {
            "State": "draining",
            "Reason": "Target.DeregistrationInProgress",
            "Description": "Target deregistration is in progress",
        }
        assert told[names[0]]["HealthCheckPort"] == str(one.server_port)
        assert told[names[1]]["TargetHealth"] == {"State": "healthy"}
        web.ec2.terminate_instances(InstanceIds=[names[1]])
        deadline = time.monotonic() + WITHIN
        while answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_health_is_what_the_checks_found(web):
    with app("one") as one:
        one.ready = False
        name = web.run_instance()
        web.register(name, one.server_port)
        assert web.health()[name]["TargetHealth"]["Reason"] == "Target.NotInUse"
        web.listen(free_port())
        assert web.health()[name]["TargetHealth"]["State"] == "initial"
        found = web.wait_until(name, "unhealthy")
        assert found["Reason"] == "Target.ResponseCodeMismatch"
        assert found["Description"] == "Health checks failed with these codes: [503]"
        stranger = web.run_instance()
        asked = web.health(Targets=[{"Id": stranger}])
        assert asked[stranger]["TargetHealth"]["Reason"] == "Target.NotRegistered"
    message = refused(
        "TargetGroupNotFound",
        web.elb.describe_target_health,
        TargetGroupArn=web.group.replace("targetgroup/web", "targetgroup/wbe"),
    )
    assert "target groups" in message


def test_a_taken_port_is_refused_and_leaves_no_listener(web):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused(
            "InvalidConfigurationRequest",
            web.elb.create_listener,
            LoadBalancerArn=web.balancer,
            Protocol="TCP",
            Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": web.group}],
        )
    assert f"127.0.0.1:{port} cannot be listened on (Address already in use). Choose another" in message
    assert web.elb.describe_listeners(LoadBalancerArn=web.balancer)["Listeners"] == []


def test_a_listener_moves_and_goes(web):
    with app("one") as one:
        listener = web.listen(free_port())
        name = web.run_instance()
        web.register(name, one.server_port)
        web.wait_until(name, "healthy")
        other = free_port()
        web.elb.modify_listener(ListenerArn=listener["ListenerArn"], Port=other)
        assert get(other) == "one"
        with pytest.raises(ConnectionRefusedError):
            get(listener["Port"])
        web.elb.delete_listener(ListenerArn=listener["ListenerArn"])
        with pytest.raises(ConnectionRefusedError):
            get(other)


@pytest.mark.parametrize(
    ("name", "value"),
    [("HealthCheckIntervalSeconds", 1), ("HealthyThresholdCount", 11), ("Port", 0), ("Port", 65536)],
)
def test_numbers_have_the_limits_of_aws(sandbox, name, value):
    elb = sandbox.client("elbv2", config=Config(parameter_validation=False))
    arguments = {"Name": "x", "Protocol": "TCP", "Port": 80, "VpcId": "vpc-1"} | {name: value}
    assert "must be between" in refused("ValidationError", elb.create_target_group, **arguments)


def test_what_the_balancer_does_not_do_is_refused(web):
    create = web.elb.create_target_group
    for call, arguments in (
        (web.elb.create_load_balancer, {"Name": "alb", "Subnets": ["subnet-1"]}),
        (create, {"Name": "x", "Protocol": "HTTP", "Port": 80, "VpcId": "vpc-1"}),
        (create, {"Name": "x", "TargetType": "lambda"}),
        (
            web.elb.create_listener,
            {"LoadBalancerArn": web.balancer, "Protocol": "TLS", "Port": 443, "DefaultActions": []},
        ),
        (web.elb.create_rule, {"ListenerArn": "x", "Conditions": [], "Priority": 1, "Actions": []}),
    ):
        assert "network load balancers" in refused("UnsupportedOperation", call, **arguments)
