"""Who runs the server: PostgreSQL refuses to be root."""

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import PostgresError

PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Users that may run a server when we are root.
UNPRIVILEGED_USERS = ("postgres", "nobody", "daemon")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Account:
    """The user a program runs as; None in uid, gid and groups leaves it to be ours."""

    name: str
    uid: int | None = None
    gid: int | None = None

    @property
    def groups(self) -> list[int] | None:
        """The supplementary groups: none at all for another user."""
        return None if self.uid is None else []

    def can_enter(self, folder: Path) -> bool:
        """Say whether this user can pass into `folder`."""
        if self.uid is None:
            return os.access(folder, os.X_OK)
        done = subprocess.run(
            ["/bin/sh", "-c", 'cd -- "$1"', "sh", folder.absolute()],
            cwd="/",
            stderr=subprocess.DEVNULL,
            check=False,
            user=self.uid,
            group=self.gid,
            extra_groups=self.groups,
        )
        return done.returncode == 0

    def give(self, path: Path) -> None:
        """Make this user the owner of `path`."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def server_account() -> Account:
    """Return who is to run a server: ourselves, or as root somebody with fewer rights."""
    if os.geteuid() != 0:
        return Account("ourselves")
    for name in UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return Account(name, entry.pw_uid, entry.pw_gid)
    raise PostgresError(
        f"PostgreSQL refuses to run as root and there is none of the users {', '.join(UNPRIVILEGED_USERS)}: "
        "add one, or set DATABASE_URL"
    )


def die_with_parent(signum: signal.Signals) -> Callable[[], None]:
    """Return a preexec_fn: the kernel sends `signum` to the process when the thread that started it ends."""
    parent = os.getpid()

    def prepare() -> None:
        # After any change of user, which clears the setting.
        _libc.prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
