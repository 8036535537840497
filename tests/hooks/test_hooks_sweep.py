"""Every hook killed before and after each of its steps; the deployment again ends as if nothing had been."""

import subprocess
import sys
import textwrap

import pytest

from tests.hooks import trees
from tests.hooks.agent import GROUP_ID, Deployment
from tests.hooks.laboratory import HOOKS, Laboratory

pytestmark = pytest.mark.integration
# The agent's Install, of which the process is killed at the file whose number it is given.
KILLED_INSTALL = """
    import os, signal, sys
    from pathlib import Path

    from apps.sandbox.codedeploy import installer
    from apps.specs.appspec import parse_appspec

    root, archive, group, number = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    copy = installer.shutil.copy2

    def deadly(source, target):
        global number
        number -= 1
        if number < 0:
            target.write_bytes(source.read_bytes()[:100])
            os.kill(os.getpid(), signal.SIGKILL)
        copy(source, target)

    installer.shutil.copy2 = deadly
    instructions = root / "opt/codedeploy-agent/deployment-root/deployment-instructions"
    appspec = parse_appspec((archive / "appspec.yml").read_text())
    agent = installer.Installer(root, instructions, group, alive=lambda: True)
    agent.install(archive, appspec, "DISALLOW")
"""


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory, wheelhouse):
    laboratory = Laboratory(tmp_path_factory.mktemp("sweep"), wheelhouse)
    yield laboratory
    laboratory.machine.up.power_off()


@pytest.mark.parametrize("event", HOOKS)
def test_killed_before_and_after_each_step(laboratory, event):
    for number in range(len(laboratory.steps[event])):
        for when in ("before", "after"):
            if not laboratory.kill(event, KILL_AT=f"{number} {when}"):
                # The kill before had left a release that has its name, so that there was a step less.
                laboratory.begin_afresh()
                assert laboratory.kill(event, KILL_AT=f"{number} {when}")
            laboratory.deploy_again()


@pytest.mark.parametrize(
    ("number", "when"),
    [(3, "before"), (5, "after"), (3, "after"), (6, "after")],
    ids=["nothing done", "the one before runs", "it is current", "the new one is gone"],
)
def test_killed_while_the_one_before_is_put_back(laboratory, number, when):
    """ValidateService of a release that is not ready.

    Its steps: check-deployment, stop-others, front-door, put-back (with start and prove in it), stop-others.
    """
    laboratory.begin_afresh()
    laboratory.arrive("ValidateService")
    laboratory.unready.touch()
    laboratory.machine.lose_patience(2)
    try:
        assert laboratory.kill("ValidateService", KILL_AT=f"{number} {when}")
    finally:
        laboratory.machine.lose_patience(60)
        laboratory.unready.unlink()
    laboratory.finish()


@pytest.mark.parametrize("share", [0, 0.5])
def test_the_agent_killed_during_install(laboratory, share):
    """The bundle's OVERWRITE is what lets the next Install go over what the killed one left."""
    laboratory.begin_afresh()
    deployment = Deployment(laboratory.machine, laboratory.bundle)
    deployment.run_until("BeforeInstall")
    number = int(len(laboratory.bundle.document["files"]) * share)
    program = [sys.executable, "-c", textwrap.dedent(KILLED_INSTALL)]
    arguments = [laboratory.machine.root, deployment.archive, GROUP_ID, str(number)]
    killed = subprocess.run([*program, *arguments], cwd=trees.REPOSITORY, check=False)
    assert killed.returncode == -9
    laboratory.finish()
