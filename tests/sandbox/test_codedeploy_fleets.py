"""Deployments to several hosts: how many at once, in which order, and what that means when some fail."""

import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.deploying import HEADER, Fleet, Gate, bundle, tar
from tests.sandbox.hosts import wait_until

pytestmark = pytest.mark.integration
HOSTS = 4


@pytest.fixture(scope="module")
def fleet(sandbox):
    """Four hosts, with a tag for each and one for all."""
    name = f"fleets-{uuid.uuid4().hex[:8]}"
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    fleet = Fleet(sandbox, name, hosts=HOSTS)
    for number, host in enumerate(fleet.hosts):
        fleet.codedeploy.add_tags_to_on_premises_instances(
            instanceNames=[host], tags=[{"Key": f"n{number}", "Value": ""}]
        )
    return fleet


def group_of(fleet, hosts, config=None):
    """A new group of the first hosts; without one before, nothing is known of their health."""
    name = f"group-{uuid.uuid4().hex[:8]}"
    filters = [{"Key": f"n{number}", "Type": "KEY_ONLY"} for number in range(hosts)]
    options = {"deploymentConfigName": config} if config else {}
    fleet.create_group(name, onPremisesInstanceTagFilters=filters, **options)
    return name


def own_config(fleet, kind, value):
    name = f"config-{uuid.uuid4().hex[:8]}"
    fleet.codedeploy.create_deployment_config(
        deploymentConfigName=name, minimumHealthyHosts={"type": kind, "value": value}
    )
    return name


def named(fleet, config):
    return own_config(fleet, *config) if isinstance(config, tuple) else f"CodeDeployDefault.{config}"


def fails_on(fleet, *numbers):
    """The body of a hook that fails on some hosts."""
    patterns = "|".join(f"*/{fleet.hosts[number]}/root/*" for number in numbers)
    return f'case "$0" in {patterns}) exit 1 ;; esac' if patterns else "true"


def start(fleet, group, **options):
    scripts = {name: options.pop(name) for name in [*options] if name[0].isupper()}
    revision = options.pop("revision", None) or fleet.upload(tar(bundle(**scripts)))
    return fleet.start(revision, deploymentGroupName=group, **options)


def counts(info):
    return {state: count for state, count in info["deploymentOverview"].items() if count}


@pytest.mark.parametrize(
    ("config", "at_once"),
    [
        ("OneAtATime", 1),
        ("HalfAtATime", 2),
        ("AllAtOnce", 4),
        (("HOST_COUNT", 1), 3),
        (("FLEET_PERCENT", 30), 2),  # 1.2 hosts is rounded up
    ],
)
def test_so_many_hosts_at_once_that_the_minimum_stays_healthy(fleet, config, at_once):
    gate = Gate(fleet)
    deployment = start(fleet, group_of(fleet, HOSTS, named(fleet, config)), AfterInstall=gate.body)
    for host in range(at_once):
        gate.wait(host)
    assert fleet.states(deployment) == ["InProgress"] * at_once + ["Pending"] * (HOSTS - at_once)
    assert counts(fleet.describe(deployment)).get("InProgress") == at_once
    gate.open()
    info = fleet.wait(deployment)
    assert info["status"] == "Succeeded"
    assert counts(info) == {"Succeeded": HOSTS}


@pytest.mark.parametrize(
    ("config", "hosts", "bad", "status", "expected"),
    [
        ("OneAtATime", 3, [1], "Failed", {"Succeeded": 1, "Failed": 1, "Skipped": 1}),
        ("OneAtATime", 3, [2], "Succeeded", {"Succeeded": 2, "Failed": 1}),
        ("HalfAtATime", 4, [0], "Succeeded", {"Succeeded": 3, "Failed": 1}),
        ("HalfAtATime", 4, [0, 1], "Failed", {"Failed": 2, "Skipped": 2}),
        ("AllAtOnce", 3, [0, 1], "Succeeded", {"Succeeded": 1, "Failed": 2}),
        ("AllAtOnce", 3, [0, 1, 2], "Failed", {"Failed": 3}),
        (("HOST_COUNT", 1), 3, [0, 1], "Failed", {"Failed": 2, "Skipped": 1}),
        (("HOST_COUNT", 1), 3, [0], "Succeeded", {"Succeeded": 2, "Failed": 1}),
        (("FLEET_PERCENT", 60), 3, [0], "Failed", {"Failed": 1, "Skipped": 2}),
    ],
)
def test_a_deployment_fails_when_too_many_hosts_fail_and_skips_those_it_did_not_reach(
    fleet, config, hosts, bad, status, expected
):
    group = group_of(fleet, hosts, named(fleet, config))
    info = fleet.wait(start(fleet, group, BeforeInstall=fails_on(fleet, *bad)))
    assert (info["status"], counts(info)) == (status, expected)
    assert info.get("errorInformation", {}).get("code") == (
        "HEALTH_CONSTRAINTS" if status == "Failed" else None
    )


@pytest.mark.parametrize("config", [("HOST_COUNT", 2), ("FLEET_PERCENT", 60)])
def test_a_minimum_that_lets_no_host_go_fails_at_once(fleet, config):
    info = fleet.wait(start(fleet, group_of(fleet, 2, named(fleet, config)), AfterInstall="true"))
    assert info["errorInformation"]["code"] == "HEALTH_CONSTRAINTS_INVALID"
    assert counts(info) == {"Skipped": 2}


def test_the_deployments_own_configuration_is_taken_before_the_groups(fleet):
    group = group_of(fleet, 2, "CodeDeployDefault.OneAtATime")
    config = own_config(fleet, "HOST_COUNT", 0)
    info = fleet.wait(start(fleet, group, BeforeInstall=fails_on(fleet, 0), deploymentConfigName=config))
    assert (info["status"], info["deploymentConfigName"]) == ("Succeeded", config)


def test_the_host_that_failed_comes_first_and_the_one_that_is_up_to_date_last(fleet):
    group = group_of(fleet, 3)
    assert fleet.wait(start(fleet, group, AfterInstall="true"))["status"] == "Succeeded"
    info = fleet.wait(start(fleet, group, BeforeInstall=fails_on(fleet, 1)))
    assert (info["status"], counts(info)) == ("Failed", {"Succeeded": 1, "Failed": 1, "Skipped": 1})
    # The first host has the newer revision, which is not the group's; the third has the group's.
    deployment = start(fleet, group, AfterInstall="true")
    listed = fleet.codedeploy.list_deployment_targets(deploymentId=deployment)["targetIds"]
    assert listed == [fleet.hosts[number] for number in (1, 0, 2)]
    assert fleet.wait(deployment)["status"] == "Succeeded"


def test_a_stopped_deployment_skips_the_hosts_that_wait(fleet):
    gate = Gate(fleet)
    deployment = start(fleet, group_of(fleet, 3), AfterInstall=gate.body)
    gate.wait()
    fleet.codedeploy.stop_deployment(deploymentId=deployment)
    assert fleet.describe(deployment)["status"] == "InProgress"  # the agent cannot end a script
    gate.open()
    info = fleet.wait(deployment)
    assert (info["status"], counts(info)) == ("Stopped", {"Skipped": 3})
    assert fleet.events(deployment)["AfterInstall"]["status"] == "Succeeded"
    assert fleet.events(deployment)["ApplicationStart"]["status"] == "Skipped"
    assert {event["status"] for event in fleet.events(deployment, 1).values()} == {"Skipped"}
    assert not gate.started(1)


def test_a_stop_that_comes_too_late_changes_nothing(fleet):
    gate = Gate(fleet)
    deployment = start(fleet, group_of(fleet, 1), ValidateService=gate.body)
    gate.wait()
    fleet.codedeploy.stop_deployment(deploymentId=deployment)
    gate.open()
    assert fleet.wait(deployment)["status"] == "Succeeded"


def test_alarms_are_ignored_and_that_is_said(fleet):
    group = f"group-{uuid.uuid4().hex[:8]}"
    alarms = {"enabled": True, "alarms": [{"name": "errors"}, {"name": "latency"}]}
    fleet.create_group(group, alarmConfiguration=alarms)
    described = fleet.codedeploy.get_deployment_group(applicationName=fleet.name, deploymentGroupName=group)[
        "deploymentGroupInfo"
    ]
    assert described["alarmConfiguration"] == alarms
    info = fleet.wait(start(fleet, group, AfterInstall="true"))
    said = "The sandbox evaluates no alarms and ignores those of the deployment group: errors, latency"
    assert info["deploymentStatusMessages"] == [said]
    log = fleet.sandbox.state.parent / "sandbox.log"
    wait_until(lambda: f"{info['deploymentId']}: {said}" in log.read_text())


@pytest.fixture
def cloud(sandbox, bucket):
    """A fleet of EC2 instances, none launched yet."""
    fleet = Fleet(sandbox, bucket, hosts=0, onPremisesInstanceTagFilters=[])
    fleet.ec2 = sandbox.client("ec2")
    filters = [{"Key": "fleet", "Value": fleet.name, "Type": "KEY_AND_VALUE"}]
    fleet.codedeploy.update_deployment_group(
        applicationName=fleet.name, currentDeploymentGroupName="group", ec2TagFilters=filters
    )
    return fleet


def test_ec2_instances_are_found_by_their_tags_and_have_hosts_of_their_name(cloud):
    for _ in range(2):
        cloud.launch()
    (cloud.root(0) / "srv").mkdir(parents=True)
    (cloud.root(0) / "srv/provisioned").write_text("before it was deployed to")
    revision = cloud.upload(
        tar(bundle(AfterInstall='cp -v "${0%%/opt/*}/srv/provisioned" /dev/null || true'))
    )
    info = cloud.wait(cloud.start(revision))
    assert (info["status"], counts(info)) == ("Succeeded", {"Succeeded": 2})
    target = cloud.target(info["deploymentId"])
    assert target["targetArn"] == f"arn:aws:ec2:eu-central-1:123456789012:instance/{cloud.hosts[0]}"
    assert "srv/provisioned" in cloud.events(info["deploymentId"])["AfterInstall"]["diagnostics"]["logTail"]


def test_an_ec2_instance_that_does_not_run_is_left_out_and_its_host_goes_down(cloud):
    cloud.launch()
    cloud.launch()
    body = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > ${0%%/opt/*}/tmp/pid"
    assert cloud.wait(cloud.start(cloud.upload(tar(bundle(AfterInstall=body)))))["status"] == "Succeeded"
    pid = (cloud.root(0) / "tmp/pid").read_text().strip()
    cloud.ec2.stop_instances(InstanceIds=cloud.hosts[:1])
    deployment = cloud.start(cloud.upload(tar({"appspec.yml": HEADER})))
    assert cloud.wait(deployment)["status"] == "Succeeded"
    listed = cloud.codedeploy.list_deployment_targets(deploymentId=deployment)["targetIds"]
    assert listed == cloud.hosts[1:]
    wait_until(lambda: not is_alive(pid))
    cloud.ec2.terminate_instances(InstanceIds=cloud.hosts[1:])
    info = cloud.wait(cloud.start(cloud.upload(tar({"appspec.yml": HEADER}))))
    assert info["errorInformation"]["code"] == "NO_INSTANCES"
    # Started again, it is another host's life with the same files.
    cloud.ec2.start_instances(InstanceIds=cloud.hosts[:1])
    assert cloud.wait(cloud.start(cloud.upload(tar({"appspec.yml": HEADER}))))["status"] == "Succeeded"


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_ec2_tag_set_wants_one_filter_of_each_list(cloud):
    cloud.launch()
    cloud.launch()
    cloud.ec2.create_tags(Resources=cloud.hosts[:1], Tags=[{"Key": "role", "Value": "web"}])
    both = [
        [{"Key": "fleet", "Value": cloud.name, "Type": "KEY_AND_VALUE"}],
        [{"Key": "role", "Type": "KEY_ONLY"}, {"Value": "nobody's", "Type": "VALUE_ONLY"}],
    ]
    update = cloud.codedeploy.update_deployment_group
    where = {"applicationName": cloud.name, "currentDeploymentGroupName": "group"}
    with pytest.raises(ClientError, match="InvalidEC2TagCombinationException"):
        update(**where, ec2TagSet={"ec2TagSetList": both}, ec2TagFilters=both[0])
    update(**where, ec2TagSet={"ec2TagSetList": both})
    deployment = cloud.start(cloud.upload(tar({"appspec.yml": HEADER})))
    assert cloud.codedeploy.list_deployment_targets(deploymentId=deployment)["targetIds"] == cloud.hosts[:1]
    cloud.wait(deployment)


def test_a_host_that_does_not_boot_fails_its_target(cloud):
    cloud.launch()
    cloud.root().parent.mkdir(parents=True)
    cloud.root().write_text("in the way")
    info = cloud.wait(cloud.start(cloud.upload(tar({"appspec.yml": HEADER}))))
    assert info["status"] == "Failed"
    assert "does not boot" in cloud.events(info["deploymentId"])["ApplicationStop"]["diagnostics"]["message"]
