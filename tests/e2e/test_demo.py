"""scripts/demo as its users run it: once as whoever runs the tests, once as an ordinary user.

Each works in a clone of the commit that was HEAD at the start: a checkout that people work in meanwhile has
another HEAD every few minutes. What is not committed is therefore not tested here.
"""

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
# Seconds for one whole demo with all scenarios, on two busy cores. Only one that hangs should meet it: each
# of three builds runs the unit tier, which took 453 s and 260 s while other tests ran.
WITHIN = 30 * 60
CACHE = Path(os.environ.get("LOCKKEEPER_CACHE_DIR") or ROOT / ".local" / "cache").absolute()
ORDINARY_USER = "nobody"


def environment(**changes: str) -> dict[str, str]:
    """Ours without a database: the demo finds its own. Environments and downloads are the checkout's."""
    ours = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return ours | {"LOCKKEEPER_CACHE_DIR": str(CACHE)} | changes


def git(*arguments: str | Path, folder: Path = ROOT) -> str:
    command = ["git", "-c", "safe.directory=*", "-C", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def commit() -> str:
    """The commit that is tested, whatever is committed meanwhile."""
    return git("rev-parse", "HEAD")


def clone(commit: str, target: Path) -> Path:
    git("clone", "--quiet", "--no-checkout", ROOT, target)
    git("checkout", "--quiet", "--detach", commit, folder=target)
    return target


@pytest.fixture(scope="session")
def checkout(commit: str, tmp_path_factory) -> Path:
    """A clone of that commit."""
    return clone(commit, tmp_path_factory.mktemp("checkout") / "clone")


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that have something to do with a demo's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            place = os.readlink(entry / "cwd").encode()  # noqa: PTH115  # Path.readlink drops " (deleted)"
            settings = (entry / "environ").read_bytes()
        except OSError:
            continue
        if any(str(folder).encode() in text for text in (command, place, settings)):
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


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


def wait_for(process: subprocess.Popen, output: Path, sentence: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while sentence not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def running(commit, checkout, tmp_path_factory) -> Iterator[Running]:
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
        yield Running(process, folder, output, commit)
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


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others can enter; pytest keeps its own closed."""
    folder = Path(tempfile.mkdtemp(prefix="lockkeeper-e2e-"))
    folder.chmod(0o755)
    yield folder
    # Tens of thousands of files, for which shutil.rmtree takes minutes on a busy machine.
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_an_ordinary_user_runs_it_from_a_clone(commit, open_folder):
    python = next(
        (path for path in ("/usr/bin/python3", "/usr/bin/python3.11") if can_make_environments(path)), None
    )
    if python is None:
        pytest.skip("the system has no Python 3.11 with venv that an ordinary user could run")
    user = pwd.getpwnam(ORDINARY_USER)
    theirs = clone(commit, open_folder / "clone")
    # Downloads that are there already; whatever is made from them is made anew.
    for name in ("uv", "pip"):
        if (CACHE / name).is_dir():
            shutil.copytree(CACHE / name, theirs / ".local" / "cache" / name, symlinks=True)
    subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", theirs], check=True)
    home = open_folder / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    kept = re.compile(r"(PIP|UV)_\w+|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|\w+_proxy|LANG", re.IGNORECASE)
    settings = {name: value for name, value in os.environ.items() if kept.fullmatch(name)}
    done = subprocess.run(
        ["scripts/demo", "--exit", "--approve"],
        cwd=theirs,
        env=settings
        | {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHON": python, "TMPDIR": "/tmp"},
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "serves in staging and production" in done.stdout
    assert processes_of(theirs) == []
    owners = {path.lstat().st_uid for path in (theirs / ".local" / "demo").rglob("*")}
    assert owners == {user.pw_uid}


def can_make_environments(python: str) -> bool:
    code = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    return (
        Path(python).exists()
        and subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.full
def test_an_upgrade_of_production_costs_nobody_a_request(commit, checkout):
    done = subprocess.run(
        ["scripts/demo", "--exit", "--approve", "--scenario", "upgrade"],
        cwd=checkout,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    result = json.loads((checkout / ".local" / "demo" / "1" / "result.json").read_text())
    clones = checkout / ".local" / "demo" / "1" / "clones"
    parent = git("rev-parse", f"{result['release']['commit']}^", folder=clones / "upgrade")
    assert parent == commit
    first, second = result["rolling"]
    assert (first["failed"], second["failed"]) == (0, 0)
    assert second["requests"] > 50
    assert not any(told.startswith("applied ") for told in result["migrations"][1].values())


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
