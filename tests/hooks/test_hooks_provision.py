"""scripts/provision-host on a folder: what it makes, and what it refuses."""

import os
import stat
import subprocess
import sys

import pytest

from tests.hooks.trees import REPOSITORY

pytestmark = pytest.mark.integration
NAMES = ["--application", "lockkeeper", "--group", "staging"]


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
    done = provision("--root", tmp_path / "root", *NAMES, "--port", "8123", "--python", sys.executable)
    assert done.returncode == 0, done.stderr
    return tmp_path / "root"


def test_again_changes_nothing(root):
    before = snapshot(root)
    done = provision("--root", root, *NAMES, "--port", "8123", "--python", sys.executable)
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
        "lockkeeper.service",
        "lockkeeper.socket",
    ]


def test_secrets_are_for_their_owner_alone(root, tmp_path):
    environment = root / "etc/lockkeeper/environment"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    (tmp_path / "given").write_text("SECRET_KEY=x\n")
    again = ["--root", root, *NAMES, "--python", sys.executable]
    assert provision(*again, "--environment", tmp_path / "given").returncode == 0
    assert provision(*again).returncode == 0
    assert environment.read_text() == "SECRET_KEY=x\n"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600


def test_the_service_user_is_a_drop_in_where_it_has_another_name(tmp_path):
    again = ["--root", tmp_path, *NAMES, "--python", sys.executable]
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
