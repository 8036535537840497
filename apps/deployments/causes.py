"""Known causes of a failed lifecycle event, each with a sentence and the way out.

A host names the cause in its flight record where it knows it. All of them are also recognised from what
CodeDeploy tells of the event, since a record may come late or never.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Events whose scripts are the previous revision's; ``ignoreApplicationStopFailures`` is for these three.
# https://docs.aws.amazon.com/codedeploy/latest/APIReference/API_CreateDeployment.html
OF_THE_PREVIOUS = frozenset({"ApplicationStop", "BeforeBlockTraffic", "AfterBlockTraffic"})
# Only the end of a log says why it ended; further up, words such as "Permission denied" may be harmless.
LINES = 8


@dataclass(frozen=True)
class Cause:
    """Why an event failed; ``by_release`` says whether another release would have gone through."""

    code: str
    sentence: str
    way_out: str
    by_release: bool
    texts: re.Pattern[str] | None = None


PREVIOUS_APPLICATION_STOP = Cause(
    "previous-application-stop",
    "The script that failed is the previous revision's: CodeDeploy runs the one that it installed last, and "
    "nothing in this release can mend it.",
    "Deploy once with `--ignore-application-stop-failures` (ignoreApplicationStopFailures), which gets past "
    "it; from then on this release's own script runs.",
    by_release=False,
)
# The more special ones first: where two of them fit one line, the first is the answer.
KNOWN = (
    PREVIOUS_APPLICATION_STOP,
    Cause(
        "file-exists",
        "Install found a file that the deployment before did not put there, or that an interrupted Install "
        "left behind.",
        "Write `file_exists_behavior: OVERWRITE` at the top level of appspec.yml (inside a `files` item it "
        "is ignored), or deploy with `--file-exists-behavior OVERWRITE`.",
        by_release=True,
        texts=re.compile(r"specified file already exists at this location"),
    ),
    Cause(
        "start-limit",
        "systemd does not start the unit any more, because it was started too often in a short time.",
        "Look in `journalctl -u UNIT` for why it ended before, then `systemctl reset-failed UNIT` and deploy "
        "again; with `StartLimitIntervalSec=0` in the unit systemd does not count.",
        by_release=True,
        texts=re.compile(r"start-limit-hit|repeated too quickly|was attempted too often"),
    ),
    Cause(
        "platform-mismatch",
        "The bundle was built for another platform (Python, ABI, architecture or C library) than this host.",
        "Build it on an image like this host, or name a fitting interpreter as PYTHON in etc/lockkeeper/host "
        "(scripts/provision-host --python).",
        by_release=True,
        texts=re.compile(
            r"built for another platform|Exec format error|cannot execute binary file"
            r"|version `GLIBC_[\d.]+' not found|not a supported wheel on this platform"
        ),
    ),
    Cause(
        "missing-interpreter",
        "The program that a script names after #! is not on this host (with Windows line ends its name ends "
        "in an invisible \\r), or the interpreter of the hooks is missing or too old.",
        "Install it, or run scripts/provision-host again with --python PROGRAM; save the script with Unix "
        "line ends.",
        by_release=False,
        texts=re.compile(
            r"bad interpreter|is not a Python of 3\.\d+ or later"
            # The agent has seen the script before it starts it, so it is the interpreter that is missing.
            r"|No such file or directory - \S*/deployment-archive/"
            r"|env: \S+: No such file or directory"
            r"|\b(python[\d.]*|bash|node|ruby|perl): (command )?not found"
        ),
    ),
    Cause(
        "lock-not-granted",
        "A lock was not granted in time: another deployment is at work on the host, another host migrates, "
        "or a long query holds a table that a migration needs.",
        "Look who holds it (the message may name it; in PostgreSQL `SELECT pid, xact_start, query FROM "
        "pg_stat_activity ORDER BY xact_start` shows the oldest first), let it end, and deploy again.",
        by_release=False,
        texts=re.compile(
            r"due to lock timeout|LockNotAvailable|could not obtain lock on"
            r"|has held the migration lock for|Another deployment is at work on this host"
        ),
    ),
    Cause(
        "no-space",
        "There is no room on the host's disk.",
        "See `df -h /srv /opt /tmp`; free space (logs, old folders in /srv/lockkeeper/releases and venvs "
        "that nothing points at, old archives of the agent) and deploy again.",
        by_release=False,
        texts=re.compile(r"No space left on device|Disk quota exceeded|MiB free and this release needs"),
    ),
    Cause(
        "permission",
        "Somebody was not allowed to do what they tried on this host or in its database.",
        "The message names the file or the table. Hooks run as root unless the appspec says `runas`; look at "
        "the owner and mode, at a mount with noexec or ro, and at the grants of the database user.",
        by_release=False,
        texts=re.compile(
            r"Permission denied|permission denied for|must be owner of|Operation not permitted"
            r"|Read-only file system|Unable to set script at specified location"
        ),
    ),
)
BY_CODE = {cause.code: cause for cause in KNOWN}


def cause_of(
    *, event: str, error_code: str = "", message: str = "", log_tail: str = "", recorded: str = ""
) -> Cause | None:
    """The known cause of a failed event, or None.

    ``recorded`` is the code that the host's flight record names; the rest is CodeDeploy's own.
    """
    if event in OF_THE_PREVIOUS:
        return PREVIOUS_APPLICATION_STOP
    if recorded in BY_CODE:
        return BY_CODE[recorded]
    if error_code == "ScriptNotExecutable":
        return BY_CODE["permission"]
    lines = [line for line in log_tail.splitlines() if line.strip()][-LINES:]
    return _first([*message.splitlines(), *reversed(lines)])


def _first(lines: Iterable[str]) -> Cause | None:
    """The cause that the first telling line fits."""
    for line in lines:
        for cause in KNOWN:
            if cause.texts and cause.texts.search(line):
                return cause
    return None
