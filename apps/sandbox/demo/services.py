"""The processes of a demo: each with its log, none left behind."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from apps.sandbox.processes import PR_SET_CHILD_SUBREAPER, ProcessTree, descendants

from .errors import DemoError

GRACE_SECONDS = 15.0


def adopt_orphans() -> None:
    """Make what our processes leave behind our own children, so that `end_everything` finds them."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def end_everything(grace: float = 5.0) -> None:
    """End every descendant, TERM first and KILL after the grace."""
    deadline = time.monotonic() + grace
    number = signal.SIGTERM
    while left := descendants(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        while time.monotonic() < deadline and _alive(left):
            time.sleep(0.05)
        if number == signal.SIGKILL and not _alive(left):
            return
        number, deadline = signal.SIGKILL, time.monotonic() + 2


def _alive(pids: Sequence[int]) -> bool:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return any(Path(f"/proc/{pid}").exists() for pid in pids)


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """A process that runs as long as the demo."""

    def __init__(
        self, name: str, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._tree = ProcessTree(
                command, cwd=cwd, env=dict(environment), output=output, grace_seconds=GRACE_SECONDS
            )

    def check(self) -> None:
        """Raise DemoError if it has ended."""
        code = self._tree.poll()
        if code is not None:
            raise DemoError(f"{self.name} ended with status {code}: {last_line(self.log)}", self.log)

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until `ready()`; raise DemoError if the process ends or the seconds are over before."""
        deadline = time.monotonic() + timeout
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"{self.name} was not ready after {timeout:.0f} s", self.log)
            time.sleep(0.05)

    def stop(self) -> None:
        self._tree.stop()


def run(
    name: str,
    command: Sequence[str | Path],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    log: Path,
    quiet_output: bool = False,
) -> str:
    """Run a command to its end and return its standard output; DemoError when it fails.

    Everything it says is in the log, but for standard output where `quiet_output` (it may hold secrets).
    """
    with log.open("a") as output:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            check=False,
        )
        if not quiet_output:
            output.write(done.stdout)
    if done.returncode:
        raise DemoError(f"{name} failed with status {done.returncode}: {last_line(log)}", log)
    return done.stdout


def last_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        if lines:
            return lines[-1][-300:]
    return "it said nothing"


def answers(url: str, timeout: float = 2.0) -> bool:
    """Say whether a GET of `url` gives a 2xx status."""
    try:
        with _OPENER.open(url, timeout=timeout) as response:
            return bool(200 <= response.status < 300)
    except (OSError, urllib.error.URLError):
        return False


def fetch(url: str, token: str = "", timeout: float = 10.0) -> bytes:
    """Return the body of a GET; DemoError when there is none."""
    request = urllib.request.Request(url)  # noqa: S310  # an http address of our own
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with _OPENER.open(request, timeout=timeout) as response:
            return bytes(response.read())
    except OSError as error:
        raise DemoError(f"GET {url}: {error}") from error


# This machine itself, never through a proxy.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
