"""Every hook killed before and after each of its steps; the deployment again ends as if nothing had been.

A host is brought to the state in which a kill leaves it, and the same bundle is deployed again from
ApplicationStop on. Where a kill leaves exactly a state from which that was shown already (files, modes,
links, units), it is not shown again: many steps change nothing.
"""

import json
import shutil
import subprocess
import sys
import textwrap

import pytest

from tests.hooks import trees
from tests.hooks.agent import EVENTS, GROUP_ID, Deployment, Machine
from tests.hooks.snapshot import state_of

pytestmark = pytest.mark.integration
HOOKS = [
    *("BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService"),
    *("BeforeAllowTraffic", "AfterAllowTraffic"),
]
ALL_EVENTS = [*EVENTS, "BeforeAllowTraffic", "AfterAllowTraffic"]
# Stands in for the host's Python: runs the deploy program as it is, and kills its process group before or
# after the step whose number it is given.
KILLER = """
    import contextlib, os, runpy, signal, sys

    program, arguments = sys.argv[3], sys.argv[4:]
    number, when = os.environ["KILL_AT"].split()
    sys.path.insert(0, os.path.dirname(program))
    from deploy import steps

    begun = -1
    step = steps.step

    @contextlib.contextmanager
    def deadly(name, text):
        global begun
        begun += 1
        here = begun == int(number)
        if here and when == "before":
            os.killpg(0, signal.SIGKILL)
        with step(name, text):
            yield
        if here:
            os.killpg(0, signal.SIGKILL)

    steps.step = deadly
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")
"""

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


class Laboratory:
    """One host on which bundle after bundle is deployed, each with a lock of its own."""

    def __init__(self, folder, wheelhouse):
        self.folder = folder
        self.wheelhouse = wheelhouse
        self.source = trees.make_tiny_tree(folder / "source", tale="tale-000")
        self.machine = Machine(folder / "staging-1" / "root")
        self.number = 0
        killer = folder / "killer.py"
        killer.write_text(textwrap.dedent(KILLER))
        self.deadly = folder / "python"
        self.deadly.write_text(
            f'#!/bin/sh\n[ -n "$KILL_AT" ] && [ "$1" = -I ] || exec {sys.executable} "$@"\n'
            f'exec {sys.executable} -I -B {killer} "$@"\n'
        )
        self.deadly.chmod(0o755)
        self.machine.configure("PYTHON", str(self.deadly))
        for _ in range(2):
            self.new_bundle()
            self.deploy()
        self.new_bundle()
        self.ended_well = self.rehearse()
        self.shown = []
        # An event whose turn it is in a deployment, and the state before it.
        self.ready = None

    def new_bundle(self):
        self.number += 1
        tale = f"tale-{self.number:03}"
        tree = self.folder / tale
        # Copies of the first: the repository's own hooks may be edited while this runs.
        shutil.copytree(self.source, tree)
        source = (tree / "backend/wsgi.py").read_text()
        (tree / "backend/wsgi.py").write_text(source.replace("tale-000", tale))
        (tree / ".archive-commit").write_text(f"{tale.encode().hex():0<40.40} 2026-01-02T03:04:05+00:00\n")
        self.bundle = trees.bundle(tree, self.wheelhouse, self.folder / "made.tar", remark=tale)

    def deploy(self):
        """The whole of a deployment, from ApplicationStop on."""
        deployment = Deployment(self.machine, self.bundle)
        for event in ALL_EVENTS:
            result = deployment.run(event)
            assert result.code == 0, result.output
        return deployment

    def rehearse(self):
        """Deploy undisturbed, for the state it ends in and the steps of each event."""
        deployment = self.deploy()
        folder = self.machine.home / "state/flight" / deployment.id
        self.steps = {
            event: [each["name"] for each in json.loads((folder / f"{event}.json").read_text())["steps"]]
            for event in HOOKS
        }
        state = self.state()
        self.new_bundle()
        return state

    def state(self):
        return state_of(self.machine, self.bundle)

    def kill(self, event, number, when):
        """Deploy until ``event``, and kill that one."""
        if self.ready is None or self.ready[0] != event:
            deployment = Deployment(self.machine, self.bundle)
            for each in ALL_EVENTS[: ALL_EVENTS.index(event)]:
                result = deployment.run(each)
                assert result.code == 0, result.output
            self.ready = (event, deployment, self.state())
        old = self.machine.serving()
        result = self.ready[1].run(event, KILL_AT=f"{number} {when}")
        assert result.code == -9, result.output
        assert self.machine.serving() in {old, self.bundle.digest}

    def deploy_again(self):
        """Unless that was shown from this state already."""
        state = self.state()
        if state not in self.shown:
            self.shown.append(state)
            self.ready = None
            self.deploy()
            self.check()
        elif state != self.ready[2]:
            self.ready = None

    def check(self):
        assert self.machine.leftovers() == []
        assert self.machine.serving() == self.bundle.digest
        assert self.state() == self.ended_well
        self.new_bundle()


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory, wheelhouse):
    laboratory = Laboratory(tmp_path_factory.mktemp("sweep"), wheelhouse)
    yield laboratory
    laboratory.machine.up.power_off()


@pytest.mark.parametrize("event", HOOKS)
def test_killed_before_and_after_each_step(laboratory, event):
    for number in range(len(laboratory.steps[event])):
        for when in ("before", "after"):
            laboratory.kill(event, number, when)
            laboratory.deploy_again()


@pytest.mark.parametrize("share", [0, 0.5])
def test_the_agent_killed_during_install(laboratory, share):
    """The bundle's OVERWRITE is what lets the next Install go over what the killed one left."""
    deployment = Deployment(laboratory.machine, laboratory.bundle)
    deployment.run_until("BeforeInstall")
    number = int(len(laboratory.bundle.document["files"]) * share)
    program = [sys.executable, "-c", textwrap.dedent(KILLED_INSTALL)]
    arguments = [laboratory.machine.root, deployment.archive, GROUP_ID, str(number)]
    killed = subprocess.run([*program, *arguments], cwd=trees.REPOSITORY, check=False)
    assert killed.returncode == -9
    laboratory.ready = None
    laboratory.deploy()
    laboratory.check()
