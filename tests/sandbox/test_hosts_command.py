"""`python -m apps.sandbox.hosts`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.hosts import free_port

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]


def hosts(*arguments):
    return [sys.executable, "-m", "apps.sandbox.hosts", *map(str, arguments)]


def run(*arguments):
    return subprocess.run(hosts(*arguments), cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_a_host_is_created_provisioned_run_and_shut_down(tmp_path):
    root = tmp_path / "h/root"
    provision = ["--application", "a", "--group", "g", "--port", str(free_port()), "--python", sys.executable]
    created = run("create", root, "--", *provision)
    assert created.returncode == 0, created.stderr
    with subprocess.Popen(hosts("run", root), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "is up" in process.stdout.readline()
        systemctl = root.parent / "bin/systemctl"
        found = subprocess.run([systemctl, "is-active", "lockkeeper.socket"], capture_output=True, text=True)
        assert found.stdout == "active\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 0
    found = subprocess.run([systemctl, "start", "lockkeeper.socket"], capture_output=True, text=True)
    assert "the sandbox host is down" in found.stderr


def test_a_host_that_is_not_there_or_not_possible(tmp_path):
    assert "there is no host at" in run("run", tmp_path / "none").stderr
    result = run("create", tmp_path / "a b/root")
    assert (result.returncode, "special to a shell" in result.stderr) == (1, True)
    (tmp_path / "file").write_text("")
    result = run("create", tmp_path / "file/root")
    assert (result.returncode, "Not a directory" in result.stderr) == (1, True)
    assert "Traceback" not in result.stderr
