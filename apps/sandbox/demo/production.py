"""Production's part of the account: instances behind a load balancer, and a configuration in SSM."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from .cloud import SERVICE, Cloud, tagged
from .services import free_port

NAME = f"{SERVICE}-production"
PARAMETERS = f"/{SERVICE}/production/"
CHECK_SECONDS = 5  # the shortest interval of health checks that AWS allows
DRAIN_SECONDS = 10  # what requests under way may take when their host is taken out


def put_configuration(cloud: Cloud, values: Mapping[str, str]) -> str:
    """Keep the service's secrets as parameters; return their place, as provision-host is told it."""
    ssm = cloud.client("ssm")
    for name, value in values.items():
        ssm.put_parameter(Name=f"{PARAMETERS}{name}", Value=value, Type="SecureString")
    return f"ssm:{PARAMETERS}"


def run_instances(cloud: Cloud, count: int) -> list[str]:
    """Start instances with the tag by which the deployment group finds them; return their ids."""
    tags = [{"Key": "environment", "Value": "production"}, {"Key": "Name", "Value": NAME}]
    made = cloud.client("ec2").run_instances(
        ImageId="ami-12c6146b",  # one that moto has; no image is behind it
        InstanceType="t3.small",
        MinCount=count,
        MaxCount=count,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    return [str(each["InstanceId"]) for each in made["Instances"]]


def open_front_door(cloud: Cloud, ports: Mapping[str, int]) -> str:
    """Put instances behind a network load balancer and make the deployment group; return its address.

    `ports` has each instance's own port: all of them are folders of one machine.
    """
    elb = cloud.client("elbv2")
    subnet = cloud.client("ec2").describe_subnets()["Subnets"][0]
    group = elb.create_target_group(
        Name=NAME,
        Protocol="TCP",
        Port=80,
        VpcId=subnet["VpcId"],
        HealthCheckProtocol="HTTP",
        HealthCheckPath="/readyz",
        HealthCheckIntervalSeconds=CHECK_SECONDS,
        HealthCheckTimeoutSeconds=CHECK_SECONDS,
        HealthyThresholdCount=2,
        UnhealthyThresholdCount=2,
    )["TargetGroups"][0]["TargetGroupArn"]
    elb.modify_target_group_attributes(
        TargetGroupArn=group,
        Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": str(DRAIN_SECONDS)}],
    )
    elb.register_targets(
        TargetGroupArn=group, Targets=[{"Id": name, "Port": port} for name, port in ports.items()]
    )
    balancer = elb.create_load_balancer(Name=NAME, Type="network", Subnets=[subnet["SubnetId"]])
    port = _listen(elb, balancer["LoadBalancers"][0]["LoadBalancerArn"], group)
    cloud.add_group(
        "production",
        ec2TagFilters=[tagged("production")],
        deploymentStyle={"deploymentType": "IN_PLACE", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
        loadBalancerInfo={"targetGroupInfoList": [{"name": NAME}]},
    )
    return f"http://127.0.0.1:{port}"


def _listen(elb: Any, balancer: str, group: str, attempts: int = 5) -> int:
    """Add a listener on a free port, and return it; AWS has no "any port"."""
    port = free_port()
    try:
        elb.create_listener(
            LoadBalancerArn=balancer,
            Protocol="TCP",
            Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
        )
    except ClientError as error:
        # Somebody else may have taken it since it was found free.
        if attempts > 1 and error.response["Error"]["Code"] == "InvalidConfigurationRequest":
            return _listen(elb, balancer, group, attempts - 1)
        raise
    return port
