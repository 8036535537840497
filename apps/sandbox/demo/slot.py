"""Where one demo keeps its files: a folder below .local/demo that no other demo uses meanwhile."""

import fcntl
import os
import shutil
from pathlib import Path

from ..hosts.names import Layout, UnsafeRoot
from .errors import DemoError

# What a later run may find again: environments are named by what they are made from.
KEPT = "root/srv/lockkeeper/venvs"


class Slot:
    """A locked folder. The lock goes with the process; the files stay until the next run."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock
        self.logs = folder / "logs"
        self.state = folder / "aws"

    def close(self) -> None:
        os.close(self._lock)


def take_slot(parent: Path) -> Slot:
    """Take the first free folder of `parent`; empty it, but for hosts' environments and the last logs."""
    try:
        Layout(parent)  # the hosts will be below it
    except UnsafeRoot as error:
        raise DemoError(
            f"{parent} has characters that are special to a shell, and the hosts' units put it into shell "
            "lines: clone into a folder whose path has only letters, digits and ./+@,:=_-"
        ) from error
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 100):
            folder = parent / str(number)
            folder.mkdir(exist_ok=True)
            lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            slot = Slot(folder, lock)
            _empty(slot)
            return slot
    except OSError as error:
        raise DemoError(
            f"{error.filename or parent}: {error.strerror}: the demo keeps its files there"
        ) from error
    raise DemoError(f"{parent} has 99 demos running already")


def _empty(slot: Slot) -> None:
    previous = slot.folder / "logs.previous"
    shutil.rmtree(previous, ignore_errors=True)
    if slot.logs.exists():
        slot.logs.rename(previous)
    for entry in slot.folder.iterdir():
        if entry.name not in ("lock", previous.name, slot.state.name):
            _remove(entry)
    hosts = slot.state / "hosts"
    for entry in slot.state.iterdir() if slot.state.is_dir() else ():
        if entry != hosts:
            _remove(entry)
    for host in hosts.iterdir() if hosts.is_dir() else ():
        _remove_all_but(host, Path(KEPT))
    slot.logs.mkdir()
    slot.state.mkdir(exist_ok=True)


def _remove_all_but(folder: Path, kept: Path) -> None:
    first, *rest = kept.parts
    for entry in folder.iterdir():
        if entry.name != first or entry.is_symlink():
            _remove(entry)
        elif rest:
            _remove_all_but(entry, Path(*rest))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        _make_writable(path)
        shutil.rmtree(path)
    else:
        path.unlink()


def _make_writable(folder: Path) -> None:
    """Releases are read-only on their hosts, which would keep anyone but root from removing them."""
    folder.chmod(0o700)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _make_writable(Path(entry.path))
