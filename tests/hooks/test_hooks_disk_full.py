"""A disk that is full at each write: the hook fails with one sentence and the old release serves on.

With room again the same deployment ends as always. The disk is a small tmpfs: it needs the right to mount.
"""

import os
import subprocess

import pytest

from tests.hooks.agent import Deployment
from tests.hooks.laboratory import Laboratory

pytestmark = pytest.mark.integration
PAGE = os.sysconf("SC_PAGE_SIZE")
SIZE = 700 << 20  # of which what is not used takes no memory


class Disk:
    """A tmpfs, and a file that leaves as much of it free as is wanted."""

    def __init__(self, folder):
        self.folder = folder
        self.ballast = folder / "state/ballast"
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "lockkeeper-test", folder]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk needs the right to mount: {done.stderr.strip()}")

    def leave(self, wanted):
        status = os.statvfs(self.folder)
        with self.ballast.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, status.f_bavail * status.f_frsize - wanted)

    def make_room(self):
        self.ballast.unlink(missing_ok=True)

    def unmount(self):
        # Lazily: what a test that failed has left open must not keep it.
        subprocess.run(["umount", "--lazy", self.folder], check=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    disk = Disk(tmp_path_factory.mktemp("full-disk") / "staging-1/root/srv/lockkeeper")
    yield disk
    disk.unmount()


@pytest.fixture(scope="module")
def laboratory(disk, wheelhouse):
    laboratory = Laboratory(disk.folder.parents[3], wheelhouse, own_locks=False)
    yield laboratory
    laboratory.machine.up.power_off()


def fails_for_want_of_room(laboratory, disk, deployment, event, free):
    """Run an event with so many bytes free; False when it succeeded, which is as good."""
    machine = laboratory.machine
    old = machine.pointer("current")
    disk.leave(free)
    result = deployment.run(event)
    try:
        assert result.code in {0, 1}, result.output
        if result.code == 1:
            assert "Known cause: no-space" in result.output, result.output
            assert "Traceback" not in result.reason
            assert "free some space" in result.reason or "No space left on device" in result.reason
            assert machine.serving() == old
            assert machine.pointer("current") == old
            assert len({unit.partition("@")[2].partition(".")[0] for unit in machine.running()}) == 1
        assert machine.leftovers() == []
        release = machine.home / "releases" / laboratory.bundle.digest
        assert not release.exists() or (release / "release.json").is_file()
    finally:
        disk.make_room()
    return result.code == 1


@pytest.mark.parametrize("event", ["AfterInstall", "ApplicationStart", "ValidateService"])
def test_every_amount_of_room_from_none_to_enough(laboratory, disk, event):
    laboratory.arrive(event)
    _, deployment, before = laboratory.ready
    free, failures = 0, 0
    while fails_for_want_of_room(laboratory, disk, deployment, event, free):
        failures += 1
        assert laboratory.state() == before
        # Small steps where single pages are written, larger ones where files are copied.
        free += PAGE if free < 8 * PAGE else free // 2
        assert free < 64 << 20
    assert failures or event == "ValidateService"
    laboratory.finish()


def test_too_little_room_for_an_environment(laboratory, disk):
    """uv is told of the full disk itself, at whatever it writes then."""
    laboratory.own_locks = True
    laboratory.new_bundle()
    deployment = Deployment(laboratory.machine, laboratory.bundle)
    assert deployment.run_until("Install").code == 0
    environments = set((disk.folder / "venvs").iterdir())
    for mebibytes in (0, 8, 40, 64):
        assert fails_for_want_of_room(laboratory, disk, deployment, "AfterInstall", mebibytes << 20)
        assert set((disk.folder / "venvs").iterdir()) == environments
    laboratory.deploy()
    assert laboratory.machine.serving() == laboratory.bundle.digest
    assert laboratory.machine.leftovers() == []


def test_a_disk_with_too_little_room_is_refused_before_anything_changes(laboratory, disk):
    deployment = Deployment(laboratory.machine, laboratory.bundle)
    assert fails_for_want_of_room(laboratory, disk, deployment, "BeforeInstall", 20 << 20)
