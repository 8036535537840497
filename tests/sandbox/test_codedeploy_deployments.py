"""Deployments through boto3: states, paging, stopping, several hosts, hosts that go down."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from apps.sandbox.codedeploy import deployments
from apps.sandbox.codedeploy.service import CodeDeploy
from apps.sandbox.codedeploy.state import Deployment
from apps.sandbox.hosts.process import processes_with
from apps.sandbox.hosts.supervisor import HOST_VARIABLE
from apps.sandbox.runtime import Runtime
from tests.sandbox.deploying import ROLE, Fleet, Gate, hooks, statuses, tar
from tests.sandbox.hosts import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def fleet(sandbox, bucket):
    return Fleet(sandbox, bucket)


def bundle(fleet, **scripts):
    appspec, files = hooks(**scripts)
    return fleet.upload(tar({"appspec.yml": appspec, **files}))


def test_what_a_deployment_says_of_itself(fleet):
    revision = bundle(fleet, AfterInstall="true")
    info = fleet.wait(fleet.start(revision, description="lockkeeper:1", fileExistsBehavior="OVERWRITE"))
    assert info["createTime"] <= info["startTime"] <= info["completeTime"]
    expected = {
        "applicationName": fleet.name,
        "deploymentGroupName": "group",
        "deploymentConfigName": "CodeDeployDefault.OneAtATime",
        "revision": revision,
        "status": "Succeeded",
        "creator": "user",
        "description": "lockkeeper:1",
        "fileExistsBehavior": "OVERWRITE",
        "computePlatform": "Server",
        "ignoreApplicationStopFailures": False,
    }
    assert expected.items() <= info.items()
    counts = {"Pending": 0, "InProgress": 0, "Succeeded": 1, "Failed": 0, "Skipped": 0, "Ready": 0}
    assert info["deploymentOverview"] == counts
    assert not info.keys() & {"errorInformation", "previousRevision"}
    again = fleet.wait(fleet.start(revision))
    assert again["previousRevision"] == revision
    described = fleet.codedeploy.get_deployment_group(applicationName=fleet.name, deploymentGroupName="group")
    assert (
        described["deploymentGroupInfo"]["lastSuccessfulDeployment"]["deploymentId"] == again["deploymentId"]
    )


def test_a_failed_deployment_has_awss_own_words(fleet):
    info = fleet.wait(fleet.start(bundle(fleet, AfterInstall="exit 1")))
    assert info["errorInformation"] == {
        "code": "HEALTH_CONSTRAINTS",
        "message": "The overall deployment failed because too many individual instances failed deployment, "
        "too few healthy instances are available for deployment, or some instances in your deployment group "
        "are "
        "experiencing problems.",
    }
    assert info["deploymentOverview"]["Failed"] == 1
    assert fleet.target(info["deploymentId"])["status"] == "Failed"


def test_a_group_without_hosts(sandbox, bucket):
    fleet = Fleet(sandbox, bucket, hosts=0)
    info = fleet.wait(fleet.start(bundle(fleet)))
    assert info["errorInformation"]["code"] == "NO_INSTANCES"


def test_a_second_deployment_to_a_busy_group_is_refused(fleet):
    gate = Gate(fleet)
    first = fleet.start(bundle(fleet, AfterInstall=gate.body))
    with pytest.raises(ClientError) as caught:
        fleet.start(bundle(fleet))
    error = caught.value.response["Error"]
    assert error["Code"] == "DeploymentLimitExceededException"
    assert error["Message"] == f"The Deployment Group 'group' already has an active Deployment '{first}'"
    gate.open()
    assert fleet.wait(first)["status"] == "Succeeded"
    assert fleet.wait(fleet.start(bundle(fleet)))["status"] == "Succeeded"


def test_of_two_created_at_once_one_is_refused(fleet):
    gate = Gate(fleet)
    revision = bundle(fleet, AfterInstall=gate.body)
    results = []

    def create():
        try:
            results.append(fleet.start(revision))
        except ClientError as error:
            results.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.open()
    assert results.count("DeploymentLimitExceededException") == 3


def test_a_target_shows_where_it_is(fleet):
    gate = Gate(fleet)
    deployment = fleet.start(bundle(fleet, AfterInstall=gate.body))
    gate.wait()
    target = fleet.target(deployment)
    assert (target["status"], target["targetId"]) == ("InProgress", fleet.hosts[0])
    assert target["targetArn"].endswith(f":instance/{fleet.hosts[0]}")
    events = fleet.events(deployment)
    assert statuses(events) == [*["Succeeded"] * 4, "InProgress", "Pending", "Pending"]
    assert "endTime" not in events["AfterInstall"]
    assert (
        fleet.codedeploy.get_deployment(deploymentId=deployment)["deploymentInfo"]["status"] == "InProgress"
    )
    gate.open()
    assert fleet.wait(deployment)["status"] == "Succeeded"


def test_stopping_lets_the_running_event_finish_and_skips_the_rest(fleet):
    gate = Gate(fleet)
    deployment = fleet.start(bundle(fleet, AfterInstall=gate.body, ApplicationStart="exit 1"))
    gate.wait()
    assert fleet.codedeploy.stop_deployment(deploymentId=deployment)["status"] == "Pending"
    gate.open()
    info = fleet.wait(deployment)
    assert info["status"] == "Stopped"
    assert info["deploymentOverview"]["Skipped"] == 1
    assert statuses(fleet.events(deployment)) == [*["Succeeded"] * 5, "Skipped", "Skipped"]
    with pytest.raises(ClientError, match="DeploymentAlreadyCompletedException"):
        fleet.codedeploy.stop_deployment(deploymentId=deployment)


def test_two_groups_on_one_host_take_turns(fleet):
    fleet.create_group("other")
    gate = Gate(fleet)
    first = fleet.start(bundle(fleet, AfterInstall=gate.body))
    gate.wait()
    second = fleet.codedeploy.create_deployment(
        applicationName=fleet.name, deploymentGroupName="other", revision=bundle(fleet)
    )["deploymentId"]
    time.sleep(0.3)
    assert fleet.target(second)["status"] == "Pending"
    gate.open()
    assert fleet.wait(first)["status"] == fleet.wait(second)["status"] == "Succeeded"


FAILS_ON_FIRST = 'case "$0" in *-0/root/*) exit 1 ;; esac'
FAILS_ON_LAST = 'case "$0" in *-1/root/*) exit 1 ;; esac'


@pytest.mark.parametrize(
    ("config", "script", "status", "targets"),
    [
        ("OneAtATime", FAILS_ON_FIRST, "Failed", ["Failed", "Skipped"]),
        ("OneAtATime", FAILS_ON_LAST, "Succeeded", ["Succeeded", "Failed"]),
        ("HalfAtATime", FAILS_ON_FIRST, "Failed", ["Failed", "Skipped"]),
        ("AllAtOnce", FAILS_ON_FIRST, "Succeeded", ["Failed", "Succeeded"]),
        ("AllAtOnce", "exit 1", "Failed", ["Failed", "Failed"]),
        ("OneAtATime", "true", "Succeeded", ["Succeeded", "Succeeded"]),
    ],
)
def test_two_hosts_under_a_deployment_configuration(sandbox, bucket, config, script, status, targets):
    fleet = Fleet(sandbox, bucket, hosts=2)
    revision = bundle(fleet, AfterInstall=script)
    deployment = fleet.start(revision, deploymentConfigName=f"CodeDeployDefault.{config}")
    assert fleet.wait(deployment)["status"] == status
    assert [fleet.target(deployment, host)["status"] for host in (0, 1)] == targets
    listed = fleet.codedeploy.list_deployment_targets(
        deploymentId=deployment, targetFilters={"TargetStatus": ["Failed"]}
    )["targetIds"]
    assert listed == [name for name, each in zip(fleet.hosts, targets, strict=True) if each == "Failed"]


def test_hosts_are_chosen_by_tags(sandbox, bucket):
    fleet = Fleet(sandbox, bucket)
    fleet.register(f"{fleet.name}-foreign", value="another fleet")
    deployment = fleet.start(bundle(fleet))
    assert fleet.codedeploy.list_deployment_targets(deploymentId=deployment)["targetIds"] == fleet.hosts


def test_batches_of_targets(fleet):
    deployment = fleet.start(bundle(fleet))
    batch = fleet.codedeploy.batch_get_deployment_targets
    (found,) = batch(deploymentId=deployment, targetIds=fleet.hosts)["deploymentTargets"]
    assert found["instanceTarget"]["deploymentId"] == deployment
    with pytest.raises(ClientError, match="DeploymentTargetDoesNotExistException"):
        batch(deploymentId=deployment, targetIds=["nope"])
    with pytest.raises(ClientError, match="DeploymentTargetListSizeExceededException"):
        batch(deploymentId=deployment, targetIds=["x"] * 26)
    with pytest.raises(ClientError, match="BatchLimitExceededException"):
        fleet.codedeploy.batch_get_deployments(deploymentIds=["d-X"] * 26)


def test_deployments_are_listed_newest_first_by_state_and_time(fleet):
    good = fleet.wait(fleet.start(bundle(fleet)))
    bad = fleet.wait(fleet.start(bundle(fleet, AfterInstall="exit 1")))
    where = {"applicationName": fleet.name, "deploymentGroupName": "group"}

    def listed(**filters):
        return fleet.codedeploy.list_deployments(**where, **filters)["deployments"]

    assert listed() == [bad["deploymentId"], good["deploymentId"]]
    assert listed(includeOnlyStatuses=["Failed"]) == [bad["deploymentId"]]
    assert listed(createTimeRange={"end": good["createTime"]}) == [good["deploymentId"]]
    assert listed(createTimeRange={"start": bad["createTime"]}) == [bad["deploymentId"]]
    with pytest.raises(ClientError, match="DeploymentGroupNameRequiredException"):
        fleet.codedeploy.list_deployments(applicationName=fleet.name)
    with pytest.raises(ClientError, match="InvalidNextTokenException"):
        fleet.codedeploy.list_deployments(nextToken="nonsense")
    with pytest.raises(ClientError, match="InvalidTimeRangeException"):
        listed(createTimeRange={"start": bad["createTime"], "end": good["createTime"]})


def test_pages_hold_while_deployments_are_added(tmp_path, monkeypatch):
    monkeypatch.setattr(deployments, "PAGE_SIZE", 2)
    handler = CodeDeploy(Runtime(tmp_path, "http://127.0.0.1:1"))
    handler.create_application(applicationName="a")
    handler.create_deployment_group(applicationName="a", deploymentGroupName="g", serviceRoleArn=ROLE)
    group = handler.state.applications["a"].groups["g"]

    def add(name):
        handler.state.deployments[name] = Deployment(
            name, "a", group, handler.state.config(group.config), {}, {}, status="Succeeded"
        )

    for name in ("d-1", "d-2", "d-3", "d-4", "d-5"):
        add(name)
    first = handler.list_deployments()
    add("d-6")
    second = handler.list_deployments(nextToken=first["nextToken"])
    third = handler.list_deployments(nextToken=second["nextToken"])
    assert [page["deployments"] for page in (first, second, third)] == [
        ["d-5", "d-4"],
        ["d-3", "d-2"],
        ["d-1"],
    ]
    assert third["nextToken"] is None


def supervisors(fleet):
    end = f"--root\0{fleet.root()}\0".encode()
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if ends_with(path, end)]


def kill_supervisor(fleet):
    """Take the power from the fleet's first host."""
    (pid,) = supervisors(fleet)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not supervisors(fleet))


def ends_with(path, end):
    try:
        return path.read_bytes().endswith(end)
    except OSError:  # it has ended meanwhile
        return False


def test_a_host_that_is_down_fails_its_target_and_the_rest_is_skipped(fleet):
    kill_supervisor(fleet)
    info, events = fleet.finish(fleet.start(bundle(fleet)))
    assert info["status"] == "Failed"
    assert statuses(events) == ["Failed", *["Skipped"] * 6]
    assert "is down" in events["ApplicationStop"]["diagnostics"]["message"]


def test_a_host_that_goes_down_during_a_hook_fails_and_takes_the_hook_along(fleet):
    gate = Gate(fleet)
    deployment = fleet.start(bundle(fleet, AfterInstall=gate.body))
    gate.wait()
    kill_supervisor(fleet)
    info, events = fleet.finish(deployment)
    assert info["status"] == "Failed"
    assert events["AfterInstall"]["diagnostics"]["errorCode"] == "UnknownError"
    wait_until(lambda: not processes_with(HOST_VARIABLE, str(fleet.root())))


@pytest.fixture
def own(start, tmp_path):
    """A fleet in a sandbox of its own."""
    sandbox = start(tmp_path)
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    yield Fleet(sandbox, "bucket")
    sandbox.process.kill()
    sandbox.process.wait()


def test_a_sandbox_that_ends_takes_hosts_and_hooks_along(own):
    (own.root() / "etc/systemd/system/app.service").write_text("[Service]\nExecStart=/bin/sleep 1000\n")
    gate = Gate(own)
    own.start(bundle(own, BeforeInstall="systemctl start app", AfterInstall=gate.body))
    gate.wait()
    assert len(processes_with(HOST_VARIABLE, str(own.root()))) >= 2
    assert own.sandbox.stop() == 0
    assert processes_with(HOST_VARIABLE, str(own.root())) == []


def test_a_sandbox_that_is_killed_takes_hosts_and_hooks_along(own):
    gate = Gate(own)
    own.start(bundle(own, AfterInstall=gate.body))
    gate.wait()
    own.sandbox.process.kill()
    own.sandbox.process.wait()
    wait_until(lambda: not processes_with(HOST_VARIABLE, str(own.root())))


def test_a_folder_that_cannot_be_made_is_said(fleet):
    deployment_root = fleet.root() / "opt/codedeploy-agent/deployment-root"
    deployment_root.rmdir()
    deployment_root.write_text("in the way")
    _, events = fleet.finish(fleet.start(bundle(fleet)))
    found = events["ApplicationStop"]["diagnostics"]
    assert (found["errorCode"], found["message"].partition(" - ")[0]) == ("UnknownError", "Not a directory")
