"""Starting a unit's processes and finding all of them again.

The supervisor is a single thread, so it may fork and go on in Python up to exec: there descriptors are put
into place and LISTEN_PID becomes known.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import grp
import os
import pwd
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .config import EXIT_CHDIR, EXIT_EXEC

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_FIRST_LISTEN_FD = 3  # SD_LISTEN_FDS_START
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Credentials:
    """Who a process runs as; None stands for "as the supervisor"."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str
    shell: str

    @classmethod
    def find(cls, user: str, group: str, supplementary: Sequence[str]) -> Credentials | None:
        """Look a unit's User= up; None where the supervisor may not change to it or nobody has that name.

        A sandbox host has no accounts of its own, so a user that the machine does not have is no error here.
        """
        if os.geteuid() != 0 or not user:
            return None
        try:
            entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
            gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid
            extra = [grp.getgrnam(name).gr_gid for name in supplementary]
        except KeyError:
            return None
        groups = (*os.getgrouplist(entry.pw_name, gid), *extra)
        return cls(entry.pw_uid, gid, groups, entry.pw_dir, entry.pw_name, entry.pw_shell)


@dataclass(frozen=True)
class Spawn:
    """Everything a child needs between fork and exec."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    cwd_optional: bool
    umask: int
    stdout: int
    stderr: int
    credentials: Credentials | None
    sockets: tuple[tuple[str, int], ...] = ()
    limits: tuple[tuple[int, tuple[int, int]], ...] = ()


def adopt_orphans() -> None:
    """Make processes whose parent died children of this one, as they would be of systemd."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def spawn(spec: Spawn) -> int:
    """Fork and exec; return the pid once the program has been executed.

    Raises ExecFailed if the child never came that far; it is then already gone, with systemd's exit status.
    """
    report_read, report_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _become(spec, report_write)
        except BaseException as error:
            # Whatever went wrong, this copy of the supervisor must not return into its loop.
            status = EXIT_CHDIR if isinstance(error, _ChdirFailed) else EXIT_EXEC
            os.write(report_write, f"{status} {error}".encode()[:4000])
            os._exit(status)
    os.close(report_write)
    with os.fdopen(report_read, "rb") as report:
        failure = report.read().decode(errors="replace")
    if failure:
        os.waitpid(pid, 0)
        code, _, message = failure.partition(" ")
        raise ExecFailed(int(code), message)
    return pid


class ExecFailed(Exception):
    """A child ended before exec."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _ChdirFailed(OSError):
    pass


def _become(spec: Spawn, report: int) -> None:
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if number < signal.SIGRTMIN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(spec.umask)
    # First move every descriptor out of the way, so that none overwrites one that is still needed.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 500) for _, fd in spec.sockets]
    stdin = os.open("/dev/null", os.O_RDONLY)
    stdout, stderr, stdin = (
        fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 500) for fd in (spec.stdout, spec.stderr, stdin)
    )
    report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, 500)
    for target, fd in enumerate([stdin, stdout, stderr, *high]):
        os.dup2(fd, target, inheritable=True)
    env = dict(spec.env)
    if spec.sockets:
        env["LISTEN_PID"] = str(os.getpid())
        env["LISTEN_FDS"] = str(len(spec.sockets))
        env["LISTEN_FDNAMES"] = ":".join(name for name, _ in spec.sockets)
    for which, limit in spec.limits:
        resource.setrlimit(which, limit)
    if spec.credentials:
        os.setgroups(spec.credentials.groups)
        os.setgid(spec.credentials.gid)
        os.setuid(spec.credentials.uid)
    # After setuid, which would clear it: the host's processes do not outlive the host.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        os.chdir(spec.cwd)
    except OSError as error:
        if not spec.cwd_optional:
            raise _ChdirFailed(error.errno, f"cannot change to {spec.cwd}: {error.strerror}") from None
        os.chdir("/")
    os.execvpe(spec.argv[0], list(spec.argv), env)  # noqa: S606  # to be this program is the point


class Children:
    """The processes started here, each with a future for how it ended."""

    def __init__(self) -> None:
        self._ends: dict[int, asyncio.Future[int]] = {}

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reap from now on."""
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def start(self, spec: Spawn) -> tuple[int, asyncio.Future[int]]:
        """Start a process; the future becomes its exit status, or minus the signal that ended it."""
        pid = spawn(spec)
        end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ends[pid] = end
        # It may have ended before it was known here.
        asyncio.get_running_loop().call_soon(self._reap)
        return pid, end

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            end = self._ends.pop(pid, None)
            if end is not None and not end.done():
                end.set_result(os.waitstatus_to_exitcode(status))


def processes_with(variable: str, value: str) -> list[int]:
    """Every process whose environment had variable=value when it was started, but not this one.

    This stands for a control group: it also finds daemons that left their session.
    """
    needle = f"{variable}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone, or another user's
        if needle in environ.split(b"\0"):
            found.append(int(entry.name))
    return found


def end_processes(variable: str, value: str, grace: float) -> None:
    """TERM every process found by its environment, KILL what is left after grace seconds, and wait."""
    deadline = time.monotonic() + grace
    told: set[int] = set()
    while left := processes_with(variable, value):
        late = time.monotonic() >= deadline
        for pid in left:
            if late or pid not in told:
                send_signal(pid, signal.SIGKILL if late else signal.SIGTERM)
        told |= set(left)
        time.sleep(0.02)


def send_signal(pid: int, number: int) -> None:
    """Signal a process that may already be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        print(f"process {pid} may not be signalled", file=sys.stderr)
