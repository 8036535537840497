"""Programs this one runs; none of them outlives it."""

import ctypes
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy import output
from deploy.errors import MISSING_INTERPRETER, Failure, cause_in
from deploy.redaction import redact

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1  # linux/prctl.h
TAIL_LINES = 15


def die_with_parent() -> None:
    """In the child: be killed when the parent is, so that `kill -9` of a hook leaves nothing at work."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    environ: Mapping[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it printed, both streams together.

    Raises Failure when it is missing, takes longer than ``timeout_s`` or, with ``check``, fails.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=environ,
            preexec_fn=die_with_parent,
            check=False,
        )
    except FileNotFoundError:
        raise _missing(command[0]) from None
    except subprocess.TimeoutExpired:
        raise _too_slow(command, timeout_s) from None
    if check:
        _check(command, done.returncode, done.stdout)
    return done


@contextmanager
def meanwhile(command: Sequence[str], *, timeout_s: float) -> Iterator[Callable[[], None]]:
    """Run a program beside what is done inside; calling what is given waits for the program's end.

    The call raises Failure when the program fails, or takes longer than ``timeout_s`` from then on. Where it
    is not made, the program is killed.
    """
    try:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=die_with_parent,
        )
    except FileNotFoundError:
        raise _missing(command[0]) from None

    def wait() -> None:
        try:
            said, _ = started.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise _too_slow(command, timeout_s) from None
        _check(command, started.returncode, said)

    with started:
        try:
            yield wait
        finally:
            started.kill()


def run_shown(
    command: Sequence[str], *, folder: Path, environ: Mapping[str, str], label: str, timeout_s: float
) -> None:
    """Run a program and show its lines as they come.

    Raises Failure with its last words when it fails or takes longer than ``timeout_s``.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    timed_out = False

    def expire(_number: int, _frame: object) -> None:
        nonlocal timed_out
        timed_out = True
        child.kill()

    try:
        started = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=die_with_parent,
        )
    except FileNotFoundError:
        raise _missing(command[0]) from None
    with started as child:
        previous = signal.signal(signal.SIGALRM, expire)
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        try:
            for line in child.stdout or ():
                output.detail(line.rstrip())
                tail.append(line.rstrip())
            code = child.wait()
        except BaseException:
            child.kill()
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
    if timed_out:
        raise Failure(f"{label} took longer than {timeout_s:.0f} s and was stopped.")
    if code:
        said = "\n".join(tail)
        raise Failure(f"{label} failed (exit {code}): {last_words(said)}", cause_in(said))


def _check(command: Sequence[str], code: int, said: str) -> None:
    if code:
        raise Failure(f"{Path(command[0]).name} failed (exit {code}): {last_words(said)}", cause_in(said))


def _too_slow(command: Sequence[str], timeout_s: float) -> Failure:
    return Failure(f"`{' '.join(command[:3])}` took longer than {timeout_s:.0f} s.")


def _missing(program: str) -> Failure:
    """The program, or the one that it names after #!, is not there."""
    if "/" in program:
        text = f"{program}, or what it is run by, is not on this host; run scripts/provision-host again"
        return Failure(f"{text} (--python PROGRAM) and deploy again.", MISSING_INTERPRETER)
    return Failure(f"{program} is not on this host (PATH is {os.environ.get('PATH', 'empty')}).")


def last_words(text: str) -> str:
    """The line of a program's output that most likely says why it failed."""
    lines = [line.strip() for line in redact(text).splitlines() if line.strip()]
    if not lines:
        return "it printed nothing"
    # A Python traceback ends in the exception; what servers log after it is about themselves.
    for line in reversed(lines):
        name = line.partition(":")[0]
        if name.rpartition(".")[2].endswith(("Error", "Exception", "NotFound")) and " " not in name:
            return line[:400]
    return lines[-1][:400]
