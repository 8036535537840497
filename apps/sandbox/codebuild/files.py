"""Find and open files of a build's source folder without ever leaving it.

What a build leaves behind is not trusted: a link to /etc/shadow, a FIFO that blocks its reader or a device
without end must not become an artifact or a report. Call this when no process of the build runs any more.
"""

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from apps.specs.buildspec import FileSet


class BaseDirectoryError(Exception):
    """A base-directory that is missing or lies outside the source folder."""


def select_files(root: Path, wanted: FileSet, log: Callable[[str], None]) -> list[tuple[str, Path]]:
    """Return (name, path) of the regular files that match, by name; links are skipped and said so.

    The name is the path below the base directory, or only its last part with `discard-paths`.
    """
    base = (root / wanted.base_directory).resolve()
    if not base.is_relative_to(root.resolve()) or not base.is_dir():
        raise BaseDirectoryError(wanted.base_directory)
    log(f"Expanding base directory path: {wanted.base_directory or '.'}")
    log("Assembling file list")
    patterns = []
    for pattern in wanted.files:
        log(f"Expanding {pattern}")
        patterns.append(pattern_of(pattern, base))
    excluded = [pattern_of(pattern, base) for pattern in wanted.exclude]
    found = {}
    for folder, folders, names in os.walk(base):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(base).as_posix()
            if not any(p.fullmatch(relative) for p in patterns) or any(
                p.fullmatch(relative) for p in excluded
            ):
                continue
            if not stat.S_ISREG(path.lstat().st_mode):
                log(f"Skipping invalid file path {relative}: not a regular file")
                continue
            found[name if wanted.discard_paths else relative] = path
    return sorted(found.items())


def open_regular(path: Path) -> IO[bytes]:
    """Open a file for reading; raise OSError where it is a link, a FIFO, a device or a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def remove_tree(folder: Path) -> None:
    """Remove a folder and what a build left in it, read-only folders too; what cannot go, stays."""
    for path, folders, _ in os.walk(folder):
        for name in folders:
            # Never through a link: what it points to is not the build's.
            if not (subfolder := Path(path, name)).is_symlink():
                with contextlib.suppress(OSError):
                    subfolder.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def pattern_of(pattern: str, base: Path) -> re.Pattern[str]:
    """Translate a path of a buildspec: `**` stands for any folders, `*` and `?` stay within one."""
    parts = PurePosixPath(pattern.replace(str(base) + "/", "")).parts
    regex = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            regex += ".*" if last else "(?:[^/]+/)*"
        else:
            regex += "".join(_piece(piece) for piece in re.split(r"(\*+|\?|\[[^]]+\])", part))
            regex += "" if last else "/"
    return re.compile(regex, re.DOTALL)


def _piece(piece: str) -> str:
    if piece.startswith("*"):
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if piece.startswith("[") and piece.endswith("]"):
        inner = piece[1:-1].replace("\\", r"\\").replace("[", r"\[")
        return f"[{'^' + inner[1:] if inner.startswith(('!', '^')) else inner}]"
    return re.escape(piece)
