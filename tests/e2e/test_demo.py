"""The whole story of scripts/demo, with both bad commits, as whoever runs the tests."""

import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.demos import WITHIN, environment, git, processes_of, run_to_the_end, wait_for

pytestmark = pytest.mark.e2e


def get(url: str, **headers: str) -> bytes:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # an address that the demo printed
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310  # likewise
        return response.read()


@dataclass
class Running:
    """A demo that has told its story and stays up."""

    process: subprocess.Popen
    folder: Path
    output: Path
    head: str

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def result(self) -> dict:
        return json.loads((self.folder / "result.json").read_text())


@pytest.fixture(scope="module")
def running(checkout, tmp_path_factory) -> Iterator[Running]:
    """The whole story with both bad commits, up until the last test of this module is done."""
    output = tmp_path_factory.mktemp("demo") / "output"
    command = ["scripts/demo", "--approve"]
    for name in ("red-test", "bad-release"):
        command += ["--scenario", name]
    with output.open("wb") as stream:
        process = subprocess.Popen(command, cwd=checkout, env=environment(), stdout=stream, stderr=stream)
    try:
        wait_for(process, output, "Everything stays up until Ctrl-C.", WITHIN)
        folder = Path(re.findall(r"^Logs and state: (.+)$", output.read_text(), re.MULTILINE)[0])
        yield Running(process, folder, output, git("rev-parse", "HEAD", folder=checkout))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(120)


def test_each_host_serves_the_release_of_head_and_so_does_the_balancer(running):
    release, hosts = running.result["release"], running.result["hosts"]
    assert release["commit"] == running.head
    assert [re.sub(r"^i-[0-9a-f]{17}$", "i-", name) for name in hosts] == ["staging-1", "i-", "i-"]
    urls = {*hosts.values(), *running.result["front_doors"].values()}
    assert len(urls) == 4
    for url in urls:
        assert json.loads(get(f"{url}/version")) == release
        assert get(f"{url}/readyz")
        assert url in running.text


def test_a_rolling_deployment_costs_nobody_a_request(running):
    (rolled,) = running.result["rolling"]
    assert rolled["failed"] == 0
    assert "1 of 2 hosts done" in running.text


def test_one_host_migrates_for_both(running):
    (told,) = running.result["migrations"]
    assert sorted(told) == sorted(name for name in running.result["hosts"] if name.startswith("i-"))
    assert sum(text.startswith("applied ") for text in told.values()) == 1


def test_production_has_its_secrets_from_ssm_alone(running):
    instances = [name for name in running.result["hosts"] if name.startswith("i-")]
    for name in instances:
        root = running.folder / "aws" / "hosts" / name / "root"
        own = (root / "etc/lockkeeper/environment").read_text()
        assert "SECRET_KEY" not in own
        assert "DATABASE_URL" not in own
        (fetched,) = (root / "srv/lockkeeper/configuration").iterdir()
        assert "SECRET_KEY=" in fetched.read_text()
        assert fetched.stat().st_mode & 0o077 == 0


def test_the_red_test_is_the_reason_at_the_gate(running):
    (sentence,) = running.result["scenarios"]["red-test"]["blocked"]
    assert "test_water_runs_uphill" in sentence


def test_the_bad_release_cost_nobody_a_request(running):
    outcome = running.result["scenarios"]["bad-release"]
    assert outcome["failed"] == 0
    assert outcome["requests"] > 50
    assert "ApplicationStart" in running.text


def test_the_control_plane_is_there_for_people_and_programs(running):
    url = re.findall(r"^  admin +(http\S+)/admin/$", running.text, re.MULTILINE)[0]
    assert b"Lockkeeper" in get(f"{url}/admin/login/")
    token = (running.folder / "token").read_text()
    promotions = json.loads(get(f"{url}/api/v1/promotions/", Authorization=f"Bearer {token}"))["results"]
    # The bad release is newer than the red one, whose promotion it therefore superseded.
    assert [(each["environment"], each["status"]) for each in promotions] == [
        ("staging", "failed"),
        ("staging", "superseded"),
        ("production", "succeeded"),
        ("staging", "succeeded"),
    ]


def test_secrets_are_shown_once_and_kept_from_others(running):
    assert (running.folder / "token").stat().st_mode & 0o077 == 0
    assert (running.folder / "manage").stat().st_mode & 0o077 == 0
    token = (running.folder / "token").read_text()
    for log in (running.folder / "logs").iterdir():
        assert token not in log.read_text(errors="replace"), log


def test_its_printed_command_works(running):
    command = [running.folder / "manage", "decide", "1"]
    done = subprocess.run(command, env={"PATH": os.defpath}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "staging" in done.stdout


def test_ctrl_c_ends_it_well_and_leaves_nothing(running):
    assert processes_of(running.folder)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(120) == 0, running.text
    assert processes_of(running.folder) == []
    for url in running.result["hosts"].values():
        with pytest.raises(OSError, match="refused"):
            get(f"{url}/version")


@pytest.mark.full
def test_an_upgrade_of_production_costs_nobody_a_request(checkout):
    run_to_the_end("--approve", "--scenario", "upgrade", folder=checkout, env=environment())
    result = json.loads((checkout / ".local" / "demo" / "1" / "result.json").read_text())
    clones = checkout / ".local" / "demo" / "1" / "clones"
    parent = git("rev-parse", f"{result['release']['commit']}^", folder=clones / "upgrade")
    assert parent == git("rev-parse", "HEAD", folder=checkout)
    first, second = result["rolling"]
    assert (first["failed"], second["failed"]) == (0, 0)
    assert second["requests"] > 50
    assert not any(told.startswith("applied ") for told in result["migrations"][1].values())
