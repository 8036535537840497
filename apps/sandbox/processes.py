"""Start a command so that nothing of it can outlive us.

`ProcessTree` runs the command under a small supervisor (this file, as a script), which adopts every
descendant the command leaves behind, daemons included (PR_SET_CHILD_SUBREAPER), and ends them all when the
command has ended, when it is told to, or when the process that started it is gone, however that happened.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

GRACE_SECONDS = 5.0


class ProcessTree:
    """A command and everything it starts.

    Start it from a thread that lives as long as the command: Linux ties the death signal to the thread.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: dict[str, str],
        output: IO[bytes],
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        supervisor = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(grace_seconds), "--", *argv]
        self.grace_seconds = grace_seconds
        self._process = subprocess.Popen(
            supervisor, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )

    def poll(self) -> int | None:
        """Return the command's exit code once nothing of it runs any more, else None."""
        return self._process.poll()

    def stop(self) -> int:
        """End the whole tree, TERM first and KILL after the grace; return the command's exit code."""
        if self._process.poll() is None:
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(self.grace_seconds + 5)
        # The supervisor itself hangs; its command has the death signal and dies with it.
        self._process.kill()
        return self._process.wait()


def die_with_parent() -> None:
    """Have this process get SIGTERM when the thread that started it ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed")


def _parents() -> Iterator[tuple[int, int]]:
    """Yield (pid, parent) of every process."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            # A process may be gone by the time it is read.
            with contextlib.suppress(OSError):
                stat = Path(entry.path, "stat").read_text(errors="replace")
                yield int(entry.name), int(stat.rpartition(")")[2].split()[1])


def descendants(root: int) -> list[int]:
    """Return the process ids below a process, children before grandchildren."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def _signal_all(pids: Iterable[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def _reap() -> dict[int, int]:
    """Collect what has ended: exit codes by pid."""
    codes = {}
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            codes[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    return codes


def _end_all(grace_seconds: float) -> None:
    """TERM every descendant, KILL what is left after the grace, and reap them."""
    _signal_all(descendants(os.getpid()), signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while True:
        _reap()
        left = descendants(os.getpid())
        if not left:
            return
        if time.monotonic() > deadline:
            _signal_all(left, signal.SIGKILL)
        time.sleep(0.02)


def _supervise(parent: int, grace_seconds: float, argv: list[str]) -> int:
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Signals are waited for, not handled: a killed parent with several threads sends its death signal
    # several times, and none of them may interrupt the clean-up.
    watched = {signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    # A Ctrl-C in the terminal reaches every process of the group; the sandbox decides what ends when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code: int | None = None
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:  # else it died before the line above
        try:
            child = _start(argv)
        except OSError as error:
            print(f"{argv[0]} cannot be started: {error.strerror}", file=sys.stderr)
            return 127
        while code is None and signal.sigwait(watched) == signal.SIGCHLD:
            code = _reap().get(child.pid)
        child.returncode = code  # it was reaped here; Popen need not try
    _end_all(grace_seconds)
    if code is None:
        return 128 + signal.SIGTERM
    return code if code >= 0 else 128 - code


def _start(argv: list[str]) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own, to die with this process.

    Keep what is returned: a Popen that is dropped reaps its child, and the exit code is lost.
    """
    supervisor = os.getpid()

    def before_exec() -> None:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)

    # preexec_fn is safe here: this process has one thread.
    return subprocess.Popen(argv, preexec_fn=before_exec)


if __name__ == "__main__":
    sys.exit(_supervise(int(sys.argv[1]), float(sys.argv[2]), sys.argv[4:]))
