"""scripts/demo that is interrupted, killed, or cannot begin."""

import signal
import subprocess
import time

import pytest

from tests.e2e.demos import environment, processes_of, wait_for

pytestmark = pytest.mark.e2e


def test_an_interrupted_start_leaves_nothing(checkout, tmp_path):
    output = tmp_path / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            ["scripts/demo"], cwd=checkout, env=environment(), stdout=stream, stderr=stream
        )
    wait_for(process, output, "Build ", 120)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM." in output.read_text()
    assert processes_of(checkout / ".local" / "demo") == []


def test_a_killed_demo_takes_everything_with_it(checkout, tmp_path):
    output = tmp_path / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            ["scripts/demo"], cwd=checkout, env=environment(), stdout=stream, stderr=stream
        )
    wait_for(process, output, "Build ", 120)
    process.kill()
    process.wait(10)
    deadline = time.monotonic() + 40
    while (left := processes_of(checkout / ".local" / "demo")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def test_a_database_that_is_away_is_said_at_once(checkout):
    done = subprocess.run(
        ["scripts/demo", "--exit"],
        cwd=checkout,
        env=environment(DATABASE_URL="postgres://nobody@127.0.0.1:1/none"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "The demo failed: PostgreSQL does not answer" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
