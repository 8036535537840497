"""appspec.yml and the files that it names, by the agent's rules."""

import re
import subprocess

import pytest
import yaml

from tests.hooks.trees import REPOSITORY

APPSPEC = yaml.safe_load((REPOSITORY / "appspec.yml").read_text())
HOOKS = sorted((REPOSITORY / "scripts/codedeploy").glob("*.sh"))
SCRIPTED = {
    *("BeforeBlockTraffic", "AfterBlockTraffic", "ApplicationStop", "BeforeInstall", "AfterInstall"),
    *("ApplicationStart", "ValidateService", "BeforeAllowTraffic", "AfterAllowTraffic"),
}


def test_it_is_a_server_appspec():
    assert (APPSPEC["version"], APPSPEC["os"]) == (0.0, "linux")
    assert APPSPEC["file_exists_behavior"] == "OVERWRITE"


def test_nothing_that_is_served_is_installed_over():
    assert APPSPEC["files"] == [{"source": "/", "destination": "/srv/lockkeeper/incoming"}]


def test_every_event_that_can_be_scripted_is():
    assert set(APPSPEC["hooks"]) == SCRIPTED


def test_time_limits_add_up_to_less_than_an_hour():
    assert sum(entry["timeout"] for entries in APPSPEC["hooks"].values() for entry in entries) < 3600


@pytest.mark.parametrize("event", sorted(SCRIPTED))
def test_a_hook_is_named_after_its_event_and_says_so(event):
    (entry,) = APPSPEC["hooks"][event]
    assert set(entry) == {"location", "timeout"}
    path = REPOSITORY / entry["location"]
    assert path.name == re.sub(r"(?<!^)([A-Z])", r"_\1", event).lower() + ".sh"
    assert path.stat().st_mode & 0o111 == 0o111
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith(f"# {event}: ")
    assert "set -Eeuo pipefail" in lines


@pytest.mark.parametrize("path", HOOKS, ids=lambda path: path.name)
def test_hooks_are_short(path):
    assert len(path.read_text().splitlines()) <= 40


def test_hooks_of_the_previous_release_depend_on_nothing():
    for name in ("application_stop", "before_block_traffic", "after_block_traffic"):
        path = REPOSITORY / f"scripts/codedeploy/{name}.sh"
        assert "source" not in path.read_text()
        done = subprocess.run([path], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_hook_that_no_agent_runs_says_so():
    path = REPOSITORY / "scripts/codedeploy/before_install.sh"
    done = subprocess.run([path], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "runs below /opt/codedeploy-agent/" in done.stderr
