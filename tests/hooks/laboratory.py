"""A host on which hooks are killed, and the same bundle is deployed again.

A host is brought to the state in which a kill leaves it, and the same bundle is deployed again from
ApplicationStop on. Where a kill leaves exactly a state from which that was shown already (files, modes,
links, units), it is not shown again: many steps change nothing.
"""

import json
import shutil
import sys
import textwrap

from tests.hooks import trees
from tests.hooks.agent import EVENTS, Deployment, Machine, wait_until
from tests.hooks.snapshot import state_of

HOOKS = [
    *("BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService"),
    *("BeforeAllowTraffic", "AfterAllowTraffic"),
]
ALL_EVENTS = [*EVENTS, "BeforeAllowTraffic", "AfterAllowTraffic"]
# Stands in for the host's Python: runs the deploy program as it is, and kills its process group before or
# after the step whose number it is given, or before the change to the world whose number it is given.
KILLER = """
    import contextlib, os, runpy, signal, sys

    program, arguments = sys.argv[4], sys.argv[5:]
    number, when = os.environ["KILL_AT"].split()
    number = int(number)
    sys.path.insert(0, os.path.dirname(program))
    from deploy import steps

    CHANGES = {
        "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod", "os.chown",
        "os.truncate", "os.utime", "os.kill", "os.killpg", "subprocess.Popen", "socket.connect",
        "fcntl.flock", "shutil.rmtree",
    }
    WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def die():
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def changes(event, arguments):
        if event == "open":
            return arguments[2] & WRITING and arguments[0] != os.devnull
        return event in CHANGES

    def watch(event, arguments):
        global number
        if changes(event, arguments):
            number -= 1
            if number < 0:
                number = 1 << 30  # this kill is an event, too
                die()

    begun = -1
    step = steps.step

    @contextlib.contextmanager
    def deadly(name, text):
        global begun
        begun += 1
        here = begun == number
        if here and when == "before":
            die()
        with step(name, text):
            yield
        if here:
            die()

    if when == "change":
        sys.addaudithook(watch)
    else:
        steps.step = deadly
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")
"""


class Laboratory:
    """One host on which bundle after bundle is deployed.

    With ``own_locks`` each has a lock of its own, so that its environment is built. With ``exact`` every kill
    of an event begins in the very same state.
    """

    def __init__(self, folder, wheelhouse, *, own_locks=True, exact=False):
        self.exact = exact
        self.arrivals = {}
        self.own_locks = own_locks
        self.folder = folder
        self.wheelhouse = wheelhouse
        # Each release has a file of its own that makes it unready.
        own_file = "os.environ['UNREADY_FILE'] += f'.{TALE}'"
        self.source = trees.make_tiny_tree(folder / "source", tale="tale-000", at_import=own_file)
        self.machine = Machine(folder / "staging-1" / "root")
        self.number = 0
        killer = folder / "killer.py"
        killer.write_text(textwrap.dedent(KILLER))
        self.deadly = folder / "python"
        self.deadly.write_text(
            f'#!/bin/sh\n[ -n "$KILL_AT" ] && [ "$2" = -B ] || exec {sys.executable} "$@"\n'
            f'exec {sys.executable} -I -B -S {killer} "$@"\n'
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
        self.unready = self.machine.unready.with_suffix(f".{tale}")
        tree = self.folder / tale
        # Copies of the first: the repository's own hooks may be edited while this runs.
        shutil.copytree(self.source, tree)
        source = (tree / "backend/wsgi.py").read_text()
        (tree / "backend/wsgi.py").write_text(source.replace("tale-000", tale))
        (tree / ".archive-commit").write_text(f"{tale.encode().hex():0<40.40} 2026-01-02T03:04:05+00:00\n")
        remark = tale if self.own_locks else ""
        self.bundle = trees.bundle(tree, self.wheelhouse, self.folder / "made.tar", remark=remark)

    def new_deployment(self):
        """Hundreds of them would fill the disk: only the one whose ApplicationStop comes next is kept."""
        deployment = Deployment(self.machine, self.bundle)
        for folder in deployment.folder.parent.iterdir():
            if folder not in {deployment.folder, self.machine.previous and self.machine.previous.folder}:
                shutil.rmtree(folder)
        return deployment

    def deploy(self):
        """The whole of a deployment, from ApplicationStop on."""
        deployment = self.new_deployment()
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

    def kill(self, event, **how):
        """Deploy until ``event``, and kill that one; False when it ended before it came to that."""
        if self.ready is None or self.ready[0] != event:
            self.arrive(event)
            if self.exact and self.ready[2] != self.arrivals.setdefault(event, self.ready[2]):
                self.finish()
                self.arrive(event)
                assert self.ready[2] == self.arrivals[event]
        proved = {self.machine.serving(), self.machine.pointer("previous"), self.bundle.digest}
        result = self.ready[1].run(event, **how)
        assert result.code in {0, -9}, result.output
        assert self.machine.serving() in proved
        return result.code == -9

    def arrive(self, event):
        """Deploy until it is an event's turn."""
        deployment = self.new_deployment()
        for each in ALL_EVENTS[: ALL_EVENTS.index(event)]:
            result = deployment.run(each)
            assert result.code == 0, result.output
        # ApplicationStart told the release before to finish, and does not wait for it.
        listing = ("list-units", "--all", "--plain", "--no-legend", "lockkeeper*@*")
        wait_until(lambda: " deactivating " not in self.machine.up.systemctl(*listing).stdout)
        self.ready = (event, deployment, self.state())

    def deploy_again(self):
        """Unless that was shown from this state already."""
        state = self.state()
        if state not in self.shown:
            self.shown.append(state)
            self.finish()
        elif state != self.ready[2]:
            self.ready = None

    def begin_afresh(self):
        """Go on with a bundle of which nothing is on the host."""
        if self.ready is not None:
            self.finish()

    def finish(self):
        """Deploy the whole of it, which must end as always; go on with another bundle."""
        self.ready = None
        self.deploy()
        assert self.machine.leftovers() == []
        assert self.machine.serving() == self.bundle.digest
        assert self.state() == self.ended_well
        self.new_bundle()
