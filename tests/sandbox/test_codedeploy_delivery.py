"""This repository's own hooks and units, delivered by the embedded CodeDeploy to a provisioned host."""

import json
import subprocess
import sys
import uuid
from urllib.request import urlopen

import pytest

from tests.hooks import trees
from tests.sandbox.deploying import Fleet, statuses
from tests.sandbox.hosts import free_port

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Three releases of a tiny service; the last cannot be imported."""
    folder = tmp_path_factory.mktemp("bundles")
    wheelhouse = trees.make_wheelhouse(folder / "house", ["gunicorn", "uv"])
    made = {}
    for tale, fault in (("one", ""), ("two", ""), ("bad", "import no_such_module")):
        (folder / tale).mkdir()
        tree = trees.make_tiny_tree(folder / tale, tale=tale, at_import=fault)
        made[tale] = trees.bundle(tree, wheelhouse, folder / f"{tale}.tar")
    return made


@pytest.fixture
def fleet(sandbox, bucket, tmp_path):
    """A fleet of one host that was provisioned before it was registered."""
    fleet = Fleet(sandbox, bucket, hosts=0)
    fleet.hosts = [f"{fleet.name}-{uuid.uuid4().hex[:4]}"]
    fleet.port = free_port()
    fleet.root().mkdir(parents=True)
    (tmp_path / "environment").write_text(f"UNREADY_FILE={tmp_path}/unready\n")
    arguments = ["--application", fleet.name, "--group", "group", "--port", str(fleet.port)]
    arguments += [
        "--python",
        sys.executable,
        "--environment",
        tmp_path / "environment",
        "--prove-seconds",
        "5",
        "--tools-python",
        sys.executable,
    ]
    command = [trees.REPOSITORY / "scripts/provision-host", "--root", fleet.root(), *arguments]
    subprocess.run(command, check=True, capture_output=True)
    fleet.register(fleet.hosts[0])
    return fleet


def ship(fleet, bundle):
    deployment = fleet.start(fleet.upload(bundle.path.read_bytes()))
    info = fleet.wait(deployment, seconds=120)
    return info["status"], fleet.events(deployment)


def serving(fleet):
    with urlopen(f"http://127.0.0.1:{fleet.port}/version", timeout=10) as answer:
        return json.load(answer)["digest"]


def test_a_release_is_delivered_replaced_and_survives_a_bad_one_and_a_reboot(fleet, bundles):
    for tale in ("one", "two"):
        status, events = ship(fleet, bundles[tale])
        assert status == "Succeeded", events
        assert serving(fleet) == bundles[tale].digest
    status, events = ship(fleet, bundles["bad"])
    assert status == "Failed"
    assert statuses(events) == [*["Succeeded"] * 5, "Failed", "Skipped"]
    assert events["ApplicationStart"]["diagnostics"]["errorCode"] == "ScriptFailed"
    assert serving(fleet) == bundles["two"].digest
    fleet.codedeploy.deregister_on_premises_instance(instanceName=fleet.hosts[0])
    fleet.register(fleet.hosts[0])
    assert serving(fleet) == bundles["two"].digest
