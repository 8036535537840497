"""This repository's own hooks and units, delivered by the embedded CodeDeploy to provisioned hosts."""

import re

import pytest

from tests.sandbox.deploying import statuses
from tests.sandbox.shipping import ProvisionedFleet, make_releases

pytestmark = pytest.mark.integration
# A release that does not start on a host where something is broken.
FAILS_WHERE_BROKEN = 'assert not (HOME.parents[2] / "broken").exists(), "this host is broken"'
ROLLED_BACK = {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}


# A release that serves, and that its own ValidateService refuses without putting the one before back.
REFUSED = {
    "validate_service.sh": "#!/bin/sh\necho not good enough; exit 1\n",
    "application_stop.sh": "#!/bin/sh\necho stop of the refused release\n",
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    lines = {
        "one": "",
        "two": "",
        "bad": "import no_such_module",
        "refused": "",
        "picky": FAILS_WHERE_BROKEN,
    }
    return make_releases(tmp_path_factory.mktemp("releases"), lines, {"refused": REFUSED})


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


def test_codedeploys_own_rollback_finds_its_release_on_the_host(sandbox, bucket, tmp_path, releases):
    """Also when the failed revision's ApplicationStop is the one that runs, as it does here."""
    fleet = ProvisionedFleet(sandbox, bucket, tmp_path, autoRollbackConfiguration=ROLLED_BACK)
    assert fleet.ship(releases["one"])["status"] == "Succeeded"
    failed = fleet.ship(releases["refused"])
    assert statuses(fleet.events(failed["deploymentId"])) == [*["Succeeded"] * 6, "Failed"]
    rollback = fleet.wait(failed["rollbackInfo"]["rollbackDeploymentId"], seconds=180)
    events = fleet.events(rollback["deploymentId"])
    assert rollback["status"] == "Succeeded", events
    assert fleet.serving() == releases["one"].digest
    # The failed release was installed last, so its ApplicationStop is the one that ran.
    assert "stop of the refused release" in events["ApplicationStop"]["diagnostics"]["logTail"]
    log = (fleet.folder(rollback["deploymentId"]) / "logs/scripts.log").read_text()
    assert re.search(r"-----> Release .*: already here", log), log
    assert "building" not in log


def test_a_rolling_deployment_over_three_hosts_with_a_bad_one_is_rolled_back(
    sandbox, bucket, tmp_path, releases
):
    fleet = ProvisionedFleet(sandbox, bucket, tmp_path, hosts=3, autoRollbackConfiguration=ROLLED_BACK)
    (fleet.root(1) / "srv/broken").touch()
    everywhere = [releases["one"].digest] * 3
    assert (
        fleet.ship(releases["one"], deploymentConfigName="CodeDeployDefault.AllAtOnce")["status"]
        == "Succeeded"
    )
    assert [fleet.serving(host) for host in range(3)] == everywhere
    failed = fleet.ship(releases["picky"])
    assert failed["errorInformation"]["code"] == "HEALTH_CONSTRAINTS"
    assert fleet.states(failed["deploymentId"]) == ["Succeeded", "Failed", "Skipped"]
    rollback = fleet.wait(failed["rollbackInfo"]["rollbackDeploymentId"], seconds=180)
    assert fleet.states(rollback["deploymentId"]) == ["Succeeded"] * 3
    assert [fleet.serving(host) for host in range(3)] == everywhere
