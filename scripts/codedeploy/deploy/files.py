"""Folders that are complete or absent, and pointers that are old or new."""

import os
import shutil
from pathlib import Path

from deploy.output import warn
from deploy.process import run

TEMPORARY = ".tmp-"
# A disk takes hundreds of megabytes in that time, however small.
FLUSH_S = 300.0


def fresh(folder: Path) -> Path:
    """Make an empty temporary folder for what will become ``folder``, without remains of a killed run."""
    temporary = folder.parent / f"{TEMPORARY}{folder.name}"
    discard(temporary)
    temporary.mkdir()
    return temporary


def discard(folder: Path) -> None:
    """Remove a folder, or a file, that may not be there."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


def discard_leftovers(parent: Path) -> None:
    """Remove the temporary folders and files of runs that were killed. Only under the host's lock.

    What cannot be removed is said, and in nobody's way: a name that is needed is cleared by ``fresh``.
    """
    for path in parent.glob(f"{TEMPORARY}*"):
        try:
            discard(path)
        except OSError as error:
            warn(f"{path} cannot be removed: {error.strerror or error}")


def flush(folder: Path) -> list[str]:
    """The program that brings a folder to the disk, with whatever else has been written there."""
    return ["sync", "--file-system", str(folder)]


def publish(temporary: Path, final: Path) -> None:
    """Give a finished folder its name, once what is in it is on the disk."""
    run(flush(temporary), timeout_s=FLUSH_S)
    temporary.rename(final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new one."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        with temporary.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_unsynced(path: Path, body: bytes) -> None:
    """Write a small file for root alone, so that a reader sees the old or the new one.

    It is not brought to the disk: a power cut may cost it.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(body)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def point(link: Path, target: str | None) -> None:
    """Make ``link`` a symbolic link to ``target``, or remove it, in one step."""
    if target is None:
        link.unlink(missing_ok=True)
    else:
        temporary = link.with_name(f"{TEMPORARY}{link.name}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
    sync_folder(link.parent)
