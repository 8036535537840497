"""This repository's own hooks and units, delivered by the embedded CodeDeploy to provisioned hosts."""

import re

import pytest

from tests.sandbox.deploying import statuses
from tests.sandbox.shipping import ProvisionedFleet, make_releases

pytestmark = pytest.mark.integration
ROLLED_BACK = {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}
# A release that its own ValidateService refuses where something is broken; it serves there nevertheless.
REFUSED_WHERE_BROKEN = {
    "validate_service.sh": '[ ! -e "${0%%/opt/codedeploy-agent/*}/srv/broken" ] || exit 1',
    "application_stop.sh": "echo stop of the refused release",
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    lines = {"one": "", "two": "", "bad": "import no_such_module", "refused": ""}
    return make_releases(tmp_path_factory.mktemp("releases"), lines, {"refused": REFUSED_WHERE_BROKEN})


def test_a_release_is_delivered_replaced_and_survives_a_bad_one_and_a_reboot(
    sandbox, bucket, tmp_path, releases
):
    fleet = ProvisionedFleet(sandbox, bucket, tmp_path)
    for tale in ("one", "two"):
        info = fleet.ship(releases[tale])
        assert info["status"] == "Succeeded", fleet.events(info["deploymentId"])
        assert fleet.serving() == releases[tale].digest
    info = fleet.ship(releases["bad"])
    assert info["status"] == "Failed"
    events = fleet.events(info["deploymentId"])
    assert statuses(events) == [*["Succeeded"] * 5, "Failed", "Skipped"]
    assert events["ApplicationStart"]["diagnostics"]["errorCode"] == "ScriptFailed"
    assert fleet.serving() == releases["two"].digest
    fleet.codedeploy.deregister_on_premises_instance(instanceName=fleet.hosts[0])
    fleet.register(fleet.hosts[0])
    assert fleet.serving() == releases["two"].digest


def test_codedeploys_own_rollback_of_a_rolling_deployment_finds_its_release_on_each_host(
    sandbox, bucket, tmp_path, releases
):
    """Three hosts, one of them bad: one has the new release already, one refuses it, one was not reached."""
    fleet = ProvisionedFleet(sandbox, bucket, tmp_path, hosts=3, autoRollbackConfiguration=ROLLED_BACK)
    (fleet.root(1) / "srv/broken").touch()
    info = fleet.ship(releases["one"], deploymentConfigName="CodeDeployDefault.AllAtOnce")
    assert info["status"] == "Succeeded", [fleet.events(info["deploymentId"], host) for host in range(3)]
    failed = fleet.ship(releases["refused"])
    assert failed["errorInformation"]["code"] == "HEALTH_CONSTRAINTS"
    assert fleet.states(failed["deploymentId"]) == ["Succeeded", "Failed", "Skipped"]
    events = fleet.events(failed["deploymentId"], 1)
    assert statuses(events) == [*["Succeeded"] * 6, "Failed"]
    rollback = fleet.wait(failed["rollbackInfo"]["rollbackDeploymentId"], seconds=300)
    every = [fleet.events(rollback["deploymentId"], host) for host in range(3)]
    assert (rollback["status"], rollback["creator"]) == ("Succeeded", "codeDeployRollback"), every
    assert [fleet.serving(host) for host in range(3)] == [releases["one"].digest] * 3
    for host, events in enumerate(every):
        # Where the failed release finished Install, its ApplicationStop is the one that ran.
        log = events["ApplicationStop"]["diagnostics"]["logTail"]
        assert ("stop of the refused release" in log) == (host < 2)
        log = (fleet.folder(rollback["deploymentId"], host) / "logs/scripts.log").read_text()
        assert re.search(r"-----> Release .*: already here", log), log
        assert re.search(r"-----> Environment .*: already here", log), log
