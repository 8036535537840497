"""scripts/provision-host on a folder: what it makes, and what it refuses."""

import os
import re
import shutil
import stat
import subprocess
import sys

import pytest

from tests.hooks import trees, wheels
from tests.hooks.trees import REPOSITORY

pytestmark = pytest.mark.integration
NAMES = ["--application", "lockkeeper", "--group", "staging"]
TOOLS = ["--tools-python", sys.executable]
LOCK = REPOSITORY / "scripts/host_tools/requirements.txt"


def provision(*arguments):
    command = [REPOSITORY / "scripts/provision-host", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def snapshot(root):
    """Every path with its kind, mode and content."""
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (oct(info.st_mode), content)
    return found


@pytest.fixture
def root(tmp_path):
    done = provision(
        "--root", tmp_path / "root", *NAMES, *TOOLS, "--port", "8123", "--python", sys.executable
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "root"


def test_again_changes_nothing(root):
    before = snapshot(root)
    done = provision("--root", root, *NAMES, *TOOLS, "--port", "8123", "--python", sys.executable)
    assert done.returncode == 0
    assert snapshot(root) == before


def test_units_are_installed_as_they_are_and_the_port_is_a_drop_in(root):
    units = root / "etc/systemd/system"
    for unit in (REPOSITORY / "infra/systemd").iterdir():
        assert (units / unit.name).read_text() == unit.read_text()
    assert (
        "ListenStream=\nListenStream=127.0.0.1:8123\n"
        in (units / "lockkeeper.socket.d/10-address.conf").read_text()
    )
    # Never an instance: `current` is the one source of truth.
    assert sorted(path.name for path in units.glob("*.wants/*")) == [
        "lockkeeper-flight.service",
        "lockkeeper.service",
        "lockkeeper.socket",
    ]


def test_secrets_are_for_their_owner_alone(root, tmp_path):
    environment = root / "etc/lockkeeper/environment"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    (tmp_path / "given").write_text("SECRET_KEY=x\n")
    again = ["--root", root, *NAMES, *TOOLS, "--python", sys.executable]
    assert provision(*again, "--environment", tmp_path / "given").returncode == 0
    assert provision(*again).returncode == 0
    assert environment.read_text() == "SECRET_KEY=x\n"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600


def test_the_service_user_is_a_drop_in_where_it_has_another_name(tmp_path):
    again = ["--root", tmp_path, *NAMES, *TOOLS, "--python", sys.executable]
    assert provision(*again, "--user", "keeper").returncode == 0
    drop_in = tmp_path / "etc/systemd/system/lockkeeper@.service.d/10-user.conf"
    assert drop_in.read_text() == "[Service]\nUser=keeper\n"
    assert provision(*again).returncode == 0
    assert not drop_in.exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--group", "g", "--root", "/tmp/x"], "--application is missing"),
        (["--application", "a", "--root", "/tmp/x"], "--group is missing"),
        ([*NAMES, "--root", "relative"], "is not an absolute path"),
        ([*NAMES, "--root", "/"], "is this machine"),
        ([*NAMES, "--root", "/tmp/x", "--port", "0"], "is not a port"),
        ([*NAMES, "--root", "/tmp/x", "--port", "65536"], "is not a port"),
        ([*NAMES, "--root", "/tmp/x", "--address", "localhost"], "is not an address"),
        ([*NAMES, "--root", "/tmp/x", "--environment", "/nonexistent"], "cannot be read"),
        ([*NAMES, "--root", "/tmp/x", "--prove-seconds", "61"], "is not from 1 to 60"),
        ([*NAMES, "--root", "/tmp/x", "--python", "/usr/bin/env"], "package: python3 (Debian 12)"),
        ([*NAMES, "--root"], "--root needs a value"),
        ([*NAMES, "--root", "/tmp/x", "--configuration", "ssm:staging"], "neither ssm:/path/ nor"),
        ([*NAMES, "--root", "/tmp/x", "--configuration", "vault:x"], "neither ssm:/path/ nor"),
        ([*NAMES, "--root", "/tmp/x", "--keep-releases", "many"], "is not from 0 to 999"),
        ([*NAMES, "--root", "/tmp/x", "--keep-days", "-1"], "is not from 0 to 9999"),
        ([*NAMES, "--root", "/tmp/x", "--host", "a b"], "is not a name"),
        ([*NAMES, "--root", "/tmp/x", "--wheelhouse", "/nonexistent"], "is not a folder"),
        ([*NAMES, "--root", "/tmp/x", "--tools-python", "/bin/true"], "a Python with boto3"),
        ([*NAMES, "--user", "Not A User", "--root", "/tmp/x"], "is not a user's name"),
        (["--colour"], "unknown argument --colour; --help lists them"),
    ],
)
def test_wrong_arguments_are_named(arguments, reason):
    done = provision(*arguments)
    assert done.returncode == 1
    assert reason in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may prepare the machine")
def test_an_ordinary_user_is_told_of_root():
    done = provision(*NAMES)
    assert (done.returncode, "needs root; or name a folder with --root" in done.stderr) == (1, True)


def settings(root):
    lines = (root / "etc/lockkeeper/host").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_what_the_hooks_are_told_of_the_host(tmp_path):
    given = ["--host", "i-0abc", "--configuration", "ssm:/lockkeeper/staging/", "--keep-days", "3"]
    done = provision("--root", tmp_path, *NAMES, *TOOLS, *given, "--python", sys.executable)
    assert done.returncode == 0, done.stderr
    told = settings(tmp_path)
    assert told["HOST_NAME"] == "i-0abc"
    assert told["CONFIGURATION"] == "ssm:/lockkeeper/staging/"
    assert (told["KEEP_RELEASES"], told["KEEP_DAYS"]) == ("5", "3")
    assert told["TOOLS_PYTHON"] == sys.executable
    drop_in = tmp_path / "etc/systemd/system/lockkeeper-flight.service.d/10-python.conf"
    assert f"ExecStart={sys.executable} -I -B /opt/lockkeeper/flight.py\n" in drop_in.read_text()


def test_a_host_without_a_given_name_has_the_machines(root):
    assert settings(root)["HOST_NAME"] == os.uname().nodename


def test_what_holds_secrets_is_for_root_alone(root):
    home = root / "srv/lockkeeper"
    for name in ("configuration", "state", "state/flight", "state/outbox", "state/used"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o700


def test_a_host_of_the_version_before_gains_what_is_new(root):
    """That one had neither tools nor the folders of configuration and records."""
    home = root / "srv/lockkeeper"
    (home / "releases/abc").mkdir()
    for name in ("configuration", "state/flight", "state/outbox", "state/used"):
        (home / name).rmdir()
    shutil.rmtree(root / "opt/lockkeeper")
    (root / "etc/lockkeeper/host").write_text("APPLICATION_NAME=old\n")
    assert provision("--root", root, *NAMES, *TOOLS, "--python", sys.executable).returncode == 0
    assert (home / "releases/abc").is_dir()
    assert (root / "opt/lockkeeper/flight.py").is_file()
    assert (home / "state/outbox").is_dir()


@pytest.fixture(scope="module")
def tools_wheelhouse(tmp_path_factory):
    """One of the tools' wheels and a lock of it, for speed; the hash of a wheel made here is its own."""
    folder = trees.make_wheelhouse(tmp_path_factory.mktemp("tools") / "house", ["jmespath"])
    return folder, wheels.lock(list(folder.glob("*.whl")))


def test_the_tools_have_an_environment_of_their_own(tools_wheelhouse, tmp_path):
    wheelhouse, lock = tools_wheelhouse
    tree, root = tmp_path / "tree", tmp_path / "root"
    for name in ("scripts/provision-host", "scripts/host_tools", "infra/systemd"):
        trees._copy(REPOSITORY / name, tree / name)
    (tree / "scripts/host_tools/requirements.txt").write_text(lock)
    command = [tree / "scripts/provision-host", "--root", root, *NAMES, "--python", sys.executable]
    command += ["--wheelhouse", wheelhouse]
    offline = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull}

    def run():
        return subprocess.run(command, capture_output=True, text=True, check=False, env=offline)

    done = run()
    assert done.returncode == 0, done.stderr
    python = root / "opt/lockkeeper/venv/bin/python"
    assert settings(root)["TOOLS_PYTHON"] == str(python)
    assert subprocess.run([python, "-I", "-c", "import jmespath"], check=False).returncode == 0
    # The same lock: nothing to do, not even with the wheels gone.
    before = snapshot(root)
    shutil.rmtree(wheelhouse)
    wheelhouse.mkdir()
    assert run().returncode == 0
    assert snapshot(root) == before
    # Another lock that cannot be installed is refused, and what is there stays.
    (tree / "scripts/host_tools/requirements.txt").write_text(lock.replace("sha256:", "sha256:0"))
    done = run()
    assert (done.returncode, "give --wheelhouse FOLDER" in done.stderr) == (1, True)
    assert subprocess.run([python, "-I", "-c", "import jmespath"], check=False).returncode == 0


def test_a_bundle_carries_all_that_provisioning_needs(make_bundle, tmp_path):
    """What the user data in docs/aws.md takes out of it."""
    places = ["scripts/provision-host", "scripts/host_tools", "infra/systemd"]
    assert f"tar -xf bundle.tar {' '.join(places)}" in (REPOSITORY / "docs/aws.md").read_text()
    subprocess.run(["tar", "-xf", make_bundle("one").path, "-C", tmp_path, *places], check=True)
    command = [tmp_path / places[0], "--root", tmp_path / "root", *NAMES, *TOOLS, "--python", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root/opt/lockkeeper/flight.py").is_file()
    assert (tmp_path / "root/etc/systemd/system/lockkeeper-flight.service").is_file()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd's own programs")
def test_systemd_itself_accepts_the_units(root):
    """As installed, with their drop-ins: whether they also run is for hosts with systemd to show."""
    units = root / "etc/systemd/system"
    for unit in units.glob("*.service"):
        text = unit.read_text().replace("/opt/lockkeeper/venv/bin/python", sys.executable)
        unit.write_text(re.sub(r"/srv/lockkeeper/releases/%i/.venv/bin/\w+", sys.executable, text))
    names = ["lockkeeper.socket", "lockkeeper.service", "lockkeeper-flight.service"]
    names += [f"{name}@{'0' * 64}.service" for name in ("lockkeeper", "lockkeeper-reconcile")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        env={"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if "lockkeeper" in line] == []
