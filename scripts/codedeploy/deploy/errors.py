"""The exceptions of this program, and the known causes among them."""

import errno
import re

NO_SPACE = "no-space"
LOCK_NOT_GRANTED = "lock-not-granted"
PERMISSION = "permission"
MISSING_INTERPRETER = "missing-interpreter"
PLATFORM_MISMATCH = "platform-mismatch"
START_LIMIT = "start-limit"

FREE_SPACE = (
    "free some space (`df -h`, `df -i`; old folders in releases/ and venvs/ that nothing points at) "
    "and deploy again"
)
# What programs print. The more special ones first.
TEXTS = (
    (NO_SPACE, re.compile(r"No space left on device|Disk quota exceeded|\(os error (28|122)\)")),
    (
        LOCK_NOT_GRANTED,
        re.compile(
            r"due to lock timeout|LockNotAvailable|could not obtain lock on|held the migration lock",
            re.IGNORECASE,
        ),
    ),
    (START_LIMIT, re.compile(r"start-limit-hit|repeated too quickly")),
    (
        MISSING_INTERPRETER,
        re.compile(r"bad interpreter|env: \S+: No such file or directory|status=203/EXEC|ExecMainStatus=203"),
    ),
    (PLATFORM_MISMATCH, re.compile(r"Exec format error|version `GLIBC_[\d.]+' not found")),
    (
        PERMISSION,
        re.compile(
            r"Permission denied|permission denied for|must be owner of|Operation not permitted"
            r"|Read-only file system"
        ),
    ),
)


class Failure(Exception):
    """The deployment cannot go on. The text is one sentence that says why, and what to do.

    ``cause`` is the code of a known cause (docs/hooks.md lists them), empty where it is none.
    """

    def __init__(self, text: str, cause: str = "") -> None:
        super().__init__(text)
        self.cause = cause


class Interrupted(Failure):
    """The agent, or someone on the host, asked this program to end."""


def cause_in(text: str) -> str:
    """The known cause that a program's output tells of, or an empty string."""
    return next((cause for cause, pattern in TEXTS if pattern.search(text)), "")


def failure_of(error: OSError) -> Failure:
    """An error of the operating system as a sentence with the way out."""
    place = f"{error.filename}: " if error.filename else ""
    said = f"{place}{error.strerror or error}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Failure(f"{said}: {FREE_SPACE}.", NO_SPACE)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        way_out = (
            "hooks run as root unless appspec.yml says `runas`; look at the owner and mode, "
            "and at a mount with noexec or ro"
        )
        return Failure(f"{said}: {way_out}, and deploy again.", PERMISSION)
    return Failure(f"{said}. Put that right and run the deployment again.")
