"""CodeDeploy's own rollback: a new deployment of the revision that succeeded last."""

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.deploying import Fleet, Gate, bundle, tar

pytestmark = pytest.mark.integration
FAILURE = {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}
REQUEST = {"enabled": True, "events": ["DEPLOYMENT_STOP_ON_REQUEST"]}


@pytest.fixture
def fleet(sandbox, bucket):
    return Fleet(sandbox, bucket, autoRollbackConfiguration=FAILURE)


def revision(fleet, **scripts):
    return fleet.upload(tar(bundle(**scripts)))


def deploy(fleet, made, **options):
    return fleet.wait(fleet.start(made, **options))


def rollback_of(fleet, info):
    """The ended deployment that rolled one back."""
    return fleet.wait(fleet.describe(info["deploymentId"])["rollbackInfo"]["rollbackDeploymentId"])


def newest(fleet):
    where = {"applicationName": fleet.name, "deploymentGroupName": "group"}
    return fleet.codedeploy.list_deployments(**where)["deployments"][0]


def test_a_failed_deployment_is_rolled_back_by_a_new_one_of_the_last_good_revision(fleet):
    good = revision(fleet, AfterInstall="true")
    first = deploy(fleet, good, fileExistsBehavior="OVERWRITE")
    assert "rollbackInfo" not in first
    assert first["autoRollbackConfiguration"] == FAILURE
    failed = deploy(fleet, revision(fleet, ValidateService="exit 1"), description="lockkeeper:2")
    assert failed["status"] == "Failed"
    rollback = rollback_of(fleet, failed)
    assert rollback["deploymentId"] not in (first["deploymentId"], failed["deploymentId"])
    assert (rollback["status"], rollback["creator"]) == ("Succeeded", "codeDeployRollback")
    assert rollback["revision"] == good
    assert "description" not in rollback
    assert rollback["rollbackInfo"]["rollbackTriggeringDeploymentId"] == failed["deploymentId"]
    said = fleet.describe(failed["deploymentId"])["rollbackInfo"]["rollbackMessage"]
    assert said == f"Rolled back by the deployment {rollback['deploymentId']}, which is Succeeded."
    group = fleet.codedeploy.get_deployment_group(applicationName=fleet.name, deploymentGroupName="group")[
        "deploymentGroupInfo"
    ]
    assert group["lastSuccessfulDeployment"]["deploymentId"] == rollback["deploymentId"]
    assert group["targetRevision"] == good


def test_after_a_rollback_the_good_revisions_scripts_run_again(fleet):
    """Previous is the last that finished Install: in the rollback the failed one, after it the good one."""
    deploy(fleet, revision(fleet, ApplicationStop="echo stop of good"))
    bad = revision(fleet, ApplicationStop="echo stop of bad", ValidateService="exit 1")
    rollback = rollback_of(fleet, deploy(fleet, bad))

    def log(info):
        return fleet.events(info["deploymentId"])["ApplicationStop"]["diagnostics"]["logTail"]

    assert "stop of bad" in log(rollback)
    assert "stop of good" in log(deploy(fleet, revision(fleet, AfterInstall="true")))


def test_the_first_deployment_has_nothing_to_be_rolled_back_to(fleet):
    info = deploy(fleet, revision(fleet, AfterInstall="exit 1"))
    assert "rollbackDeploymentId" not in info["rollbackInfo"]
    assert "No deployment to group has succeeded before" in info["rollbackInfo"]["rollbackMessage"]
    assert newest(fleet) == info["deploymentId"]


def test_a_failing_application_stop_of_the_failed_revision_fails_the_rollback_too(fleet):
    deploy(fleet, revision(fleet, AfterInstall="true"))
    rollback = rollback_of(
        fleet, deploy(fleet, revision(fleet, ApplicationStop="exit 7", AfterInstall="exit 1"))
    )
    assert rollback["status"] == "Failed"
    assert fleet.events(rollback["deploymentId"])["ApplicationStop"]["status"] == "Failed"
    # A rollback that fails is not rolled back itself.
    assert newest(fleet) == rollback["deploymentId"]
    assert "rollbackDeploymentId" not in rollback["rollbackInfo"]


def test_a_rollback_ignores_such_failures_if_the_deployment_did(fleet):
    deploy(fleet, revision(fleet, AfterInstall="true"))
    bad = revision(fleet, ApplicationStop="exit 7", AfterInstall="exit 1")
    rollback = rollback_of(fleet, deploy(fleet, bad, ignoreApplicationStopFailures=True))
    assert rollback["status"] == "Succeeded"
    assert fleet.events(rollback["deploymentId"])["ApplicationStop"]["status"] == "Failed"


def test_without_the_configuration_nothing_is_rolled_back(fleet):
    deploy(fleet, revision(fleet, AfterInstall="true"))
    bad = revision(fleet, AfterInstall="exit 1")
    info = deploy(fleet, bad, autoRollbackConfiguration={"enabled": False})
    assert "rollbackInfo" not in info
    info = deploy(fleet, bad, autoRollbackConfiguration=REQUEST)
    assert "rollbackInfo" not in info
    assert newest(fleet) == info["deploymentId"]


def stopped(fleet, *, events=(), **options):
    """A stopped deployment of a group that has a good revision."""
    deploy(fleet, revision(fleet, AfterInstall="true"))
    gate = Gate(fleet)
    configuration = {"enabled": bool(events), "events": list(events)}
    deployment = fleet.start(revision(fleet, AfterInstall=gate.body), autoRollbackConfiguration=configuration)
    gate.wait()
    fleet.codedeploy.stop_deployment(deploymentId=deployment, **options)
    gate.open()
    info = fleet.wait(deployment)
    assert info["status"] == "Stopped"
    return info


@pytest.mark.parametrize(
    ("events", "options"),
    [
        (["DEPLOYMENT_STOP_ON_REQUEST"], {}),
        ([], {"autoRollbackEnabled": True}),
    ],
)
def test_a_stopped_deployment_is_rolled_back_if_that_was_asked_for(fleet, events, options):
    rollback = rollback_of(fleet, stopped(fleet, events=events, **options))
    assert (rollback["status"], rollback["creator"]) == ("Succeeded", "codeDeployRollback")


@pytest.mark.parametrize(
    ("events", "options"),
    [
        (["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM"], {}),
        (["DEPLOYMENT_STOP_ON_REQUEST"], {"autoRollbackEnabled": False}),
    ],
)
def test_a_stopped_deployment_is_not_rolled_back_otherwise(fleet, events, options):
    info = stopped(fleet, events=events, **options)
    assert "rollbackInfo" not in info
    assert newest(fleet) == info["deploymentId"]


def test_a_group_is_busy_until_its_rollback_has_ended(fleet):
    gate = Gate(fleet)
    good = revision(fleet, AfterInstall=f'[ ! -e "${{0%%/opt/*}}/tmp/second" ] || {{ {gate.body}; }}')
    deploy(fleet, good)
    (fleet.root() / "tmp/second").touch()
    failed = deploy(fleet, revision(fleet, BeforeInstall="exit 1"))
    gate.wait()
    with pytest.raises(ClientError, match="DeploymentLimitExceededException"):
        fleet.start(good)
    gate.open()
    assert rollback_of(fleet, failed)["status"] == "Succeeded"
    assert fleet.wait(fleet.start(good))["status"] == "Succeeded"


@pytest.mark.parametrize("configuration", [{"enabled": True}, {"enabled": True, "events": []}])
def test_a_configuration_for_no_event_is_refused(fleet, configuration):
    with pytest.raises(ClientError, match="InvalidAutoRollbackConfigException"):
        fleet.create_group("other", autoRollbackConfiguration=configuration)
    with pytest.raises(ClientError, match="InvalidAutoRollbackConfigException"):
        fleet.start(revision(fleet, AfterInstall="true"), autoRollbackConfiguration=configuration)


def test_all_hosts_of_a_rolling_deployment_come_back(sandbox, bucket):
    fleet = Fleet(sandbox, bucket, hosts=3, autoRollbackConfiguration=FAILURE)
    good = 'echo good > "${0%%/opt/*}/srv/version"'
    deploy(fleet, revision(fleet, ApplicationStart=good))
    bad = 'case "$0" in *-1/root/*) exit 1 ;; esac; echo bad > "${0%%/opt/*}/srv/version"'
    failed = deploy(fleet, revision(fleet, ApplicationStart=bad))
    assert fleet.states(failed["deploymentId"]) == ["Succeeded", "Failed", "Skipped"]
    rollback = rollback_of(fleet, failed)
    assert fleet.states(rollback["deploymentId"]) == ["Succeeded"] * 3
    assert [(fleet.root(host) / "srv/version").read_text() for host in range(3)] == ["good\n"] * 3
