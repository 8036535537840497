"""Process trees end whole, however they or their parent end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apps.sandbox.processes import ProcessTree, descendants

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
# Several threads: when such a parent is killed, Linux sends the death signal more than once.
PARENT = """
import os, sys, threading, time
from pathlib import Path
from apps.sandbox.processes import ProcessTree, descendants

def start():
    command = "setsid sleep {marker} & (trap '' TERM; sleep {marker}) & sleep {marker}"
    with open(os.devnull, "wb") as output:
        options = {{"cwd": Path("/"), "env": dict(os.environ), "output": output, "grace_seconds": 0.2}}
        ProcessTree(["sh", "-c", command], **options)
    time.sleep(1000)

for _ in range(8):
    threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
threading.Thread(target=start, daemon=True).start()
for _ in range(1000):
    if len(descendants(os.getpid())) >= 5:
        print("ready", flush=True)
        break
    time.sleep(0.01)
else:
    sys.exit("the tree did not start")
time.sleep(1000)
"""


def running(marker):
    """Return how many processes sleep for so many seconds."""
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                count += (entry / "cmdline").read_bytes() == f"sleep\0{marker}\0".encode()
            except OSError:  # it ended meanwhile
                continue
    return count


@pytest.fixture
def tree(tmp_path):
    """Start a shell command as a tree: `tree("sleep 1")`; its output goes to output.txt."""
    started = []

    def start(command, grace_seconds=0.3):
        with (tmp_path / "output.txt").open("wb") as output:
            options = {"cwd": tmp_path, "env": dict(os.environ), "output": output}
            started.append(ProcessTree(["sh", "-c", command], grace_seconds=grace_seconds, **options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_exit_code_comes_once_everything_is_gone(tree, tmp_path):
    marker = f"51{os.getpid()}"
    running_tree = tree(f"setsid sleep {marker} & (setsid sh -c 'sleep {marker}' &) ; echo out; exit 3")
    wait_until(lambda: running_tree.poll() is not None)
    assert running_tree.poll() == 3
    assert running(marker) == 0
    assert (tmp_path / "output.txt").read_text() == "out\n"


def test_stop_kills_what_ignores_term(tree):
    marker = f"52{os.getpid()}"
    running_tree = tree(f"trap '' TERM; setsid sleep {marker} & sleep {marker}; sleep {marker}")
    wait_until(lambda: running(marker) == 2)
    assert running_tree.stop() != 0
    assert running(marker) == 0


def test_a_signal_that_ended_the_command_shows_in_the_code(tree):
    running_tree = tree("kill -9 $$")
    wait_until(lambda: running_tree.poll() is not None)
    assert running_tree.poll() == 137


def test_a_command_that_cannot_start_says_so(tmp_path):
    with (tmp_path / "output.txt").open("wb") as output:
        missing = ProcessTree(["/no/such"], cwd=tmp_path, env={}, output=output)
    wait_until(lambda: missing.poll() is not None)
    assert missing.poll() == 127
    assert (tmp_path / "output.txt").read_text() == "/no/such cannot be started: No such file or directory\n"


def test_nothing_outlives_a_parent_that_is_killed():
    marker = f"53{os.getpid()}"
    for _ in range(6):
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT.format(marker=marker)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        with parent:
            assert parent.stdout.readline() == "ready\n"
            assert descendants(parent.pid)
            parent.kill()
        wait_until(lambda: running(marker) == 0)
