"""Deployments behind a load balancer: the order of events, and who is in the target group when."""

import socket
import uuid

import pytest

from apps.sandbox.demo.services import free_port
from tests.sandbox.deploying import EVENTS, EVENTS_WITH_TRAFFIC, Fleet, Gate, bundle, statuses, tar
from tests.sandbox.hosts import wait_until

pytestmark = pytest.mark.integration
WITH_TRAFFIC = {"deploymentType": "IN_PLACE", "deploymentOption": "WITH_TRAFFIC_CONTROL"}


class Site(Fleet):
    """EC2 instances behind a network load balancer."""

    def __init__(self, sandbox, bucket, hosts=1):
        super().__init__(sandbox, bucket, hosts=0, onPremisesInstanceTagFilters=[])
        self.elb, ec2 = sandbox.client("elbv2"), sandbox.client("ec2")
        subnet = ec2.describe_subnets()["Subnets"][0]
        balancer = self.elb.create_load_balancer(Name=self.name, Type="network", Subnets=[subnet["SubnetId"]])
        self.target_group = self.elb.create_target_group(
            Name=self.name,
            Protocol="TCP",
            Port=80,
            VpcId=subnet["VpcId"],
            HealthCheckIntervalSeconds=5,
            HealthCheckTimeoutSeconds=5,
            HealthyThresholdCount=2,
            UnhealthyThresholdCount=2,
        )["TargetGroups"][0]["TargetGroupArn"]
        self.elb.create_listener(
            LoadBalancerArn=balancer["LoadBalancers"][0]["LoadBalancerArn"],
            Protocol="TCP",
            Port=free_port(),
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.target_group}],
        )
        # What the hosts serve: TCP health checks are content with a socket that listens.
        self.sockets = [socket.create_server(("127.0.0.1", 0), backlog=100) for _ in range(hosts)]
        for sock in self.sockets:
            self.add(self.launch(), sock.getsockname()[1])
        self.update(deploymentStyle=WITH_TRAFFIC, loadBalancerInfo=self.balancers(self.name))
        filters = [{"Key": "fleet", "Value": self.name, "Type": "KEY_AND_VALUE"}]
        self.update(ec2TagFilters=filters)

    @staticmethod
    def balancers(*names):
        return {"targetGroupInfoList": [{"name": name} for name in names]}

    def update(self, **settings):
        self.codedeploy.update_deployment_group(
            applicationName=self.name, currentDeploymentGroupName="group", **settings
        )

    def add(self, host, port):
        self.elb.register_targets(TargetGroupArn=self.target_group, Targets=[{"Id": host, "Port": port}])

    def healthy(self):
        """The instances that the balancer gives connections to."""
        answer = self.elb.describe_target_health(TargetGroupArn=self.target_group)
        targets = answer["TargetHealthDescriptions"]
        return [each["Target"]["Id"] for each in targets if each["TargetHealth"]["State"] == "healthy"]

    def run(self, **scripts):
        return self.finish(self.start(self.upload(tar(bundle(**scripts)))))


@pytest.fixture
def site(sandbox, bucket):
    site = Site(sandbox, bucket)
    yield site
    for sock in site.sockets:
        sock.close()


def test_events_run_in_awss_order(site):
    info, events = site.run(**dict.fromkeys(EVENTS_WITH_TRAFFIC, "echo ran"))
    assert info["status"] == "Succeeded"
    assert list(events) == EVENTS_WITH_TRAFFIC
    assert statuses(events) == ["Succeeded"] * 13
    starts = [event["startTime"] for event in events.values()]
    assert starts == sorted(starts)
    ran = [name for name, event in events.items() if "ran" in event["diagnostics"]["logTail"]]
    # Those before it come from a previous revision, which there is not; four are nobody's to script.
    assert ran == [
        "BeforeInstall",
        "AfterInstall",
        "ApplicationStart",
        "ValidateService",
        "BeforeAllowTraffic",
        "AfterAllowTraffic",
    ]
    assert info["deploymentStyle"] == WITH_TRAFFIC
    assert info["loadBalancerInfo"] == site.balancers(site.name)


def test_the_scripts_around_block_traffic_come_from_the_previous_revision(site):
    before = dict.fromkeys(EVENTS_WITH_TRAFFIC, "echo first $LIFECYCLE_EVENT")
    site.run(**before)
    _, events = site.run(**dict.fromkeys(EVENTS_WITH_TRAFFIC, "echo second"))
    tails = {name: event["diagnostics"]["logTail"] for name, event in events.items()}
    for name in ("BeforeBlockTraffic", "AfterBlockTraffic", "ApplicationStop"):
        assert f"[stdout]first {name}\n" in tails[name]
        assert "second" not in tails[name]
    assert "second" in tails["BeforeAllowTraffic"]


def test_traffic_is_blocked_from_block_traffic_to_allow_traffic(site):
    wait_until(lambda: site.healthy() == site.hosts, 60)
    gate = Gate(site)
    deployment = site.start(site.upload(tar(bundle(BeforeInstall=gate.body))))
    gate.wait()
    assert site.healthy() == []
    gate.open()
    assert site.wait(deployment, 90)["status"] == "Succeeded"
    assert site.healthy() == site.hosts


def test_a_host_that_fails_stays_out_until_a_deployment_to_it_succeeds(site):
    info, events = site.run(ValidateService="exit 1")
    assert info["status"] == "Failed"
    assert events["AllowTraffic"]["status"] == "Skipped"
    assert site.healthy() == []
    info, _ = site.run(ValidateService="true")
    assert info["status"] == "Succeeded"
    assert site.healthy() == site.hosts


def test_block_traffic_fails_with_the_balancers_own_sentence(site):
    unknown = f"unknown-{uuid.uuid4().hex[:8]}"
    site.update(loadBalancerInfo=site.balancers(site.name, unknown))
    info, events = site.run(ApplicationStart="true")
    assert info["status"] == "Failed"
    assert statuses(events) == ["Succeeded", "Failed", *["Skipped"] * 11]
    assert unknown in events["BlockTraffic"]["diagnostics"]["message"]


def test_allow_traffic_fails_when_the_host_cannot_be_put_back(site):
    gate = Gate(site)
    deployment = site.start(site.upload(tar(bundle(ValidateService=gate.body))))
    gate.wait()
    for listener in site.elb.describe_listeners(
        LoadBalancerArn=site.elb.describe_load_balancers(Names=[site.name])["LoadBalancers"][0][
            "LoadBalancerArn"
        ]
    )["Listeners"]:
        site.elb.delete_listener(ListenerArn=listener["ListenerArn"])
    site.elb.delete_target_group(TargetGroupArn=site.target_group)
    gate.open()
    info, events = site.finish(deployment)
    assert info["status"] == "Failed"
    assert (events["AllowTraffic"]["status"], events["AfterAllowTraffic"]["status"]) == ("Failed", "Skipped")
    assert site.name in events["AllowTraffic"]["diagnostics"]["message"]


def test_failures_of_the_previous_revisions_traffic_scripts_can_be_ignored(site):
    bad = dict.fromkeys(("BeforeBlockTraffic", "AfterBlockTraffic", "ApplicationStop"), "exit 1")
    site.run(**bad)
    good = site.upload(tar(bundle(AfterInstall="true")))
    info, events = site.finish(site.start(good))
    assert (info["status"], events["BeforeBlockTraffic"]["status"]) == ("Failed", "Failed")
    info, events = site.finish(site.start(good, ignoreApplicationStopFailures=True))
    assert info["status"] == "Succeeded"
    failed = [name for name, event in events.items() if event["status"] == "Failed"]
    assert failed == list(bad)


def test_without_traffic_control_a_balancer_is_left_alone(site):
    site.update(deploymentStyle={"deploymentOption": "WITHOUT_TRAFFIC_CONTROL"})
    _, events = site.run(AfterInstall="true")
    assert list(events) == EVENTS
