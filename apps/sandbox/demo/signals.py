"""Signals that end a demo: at any moment, once, and without being lost."""

import os
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_SECONDS = 5.0


class Stopped(BaseException):
    """A signal asked for the end.

    As KeyboardInterrupt, it is no Exception: botocore wraps every Exception that reaches it in one of its
    own, and a signal during a call would be told as a refusal of AWS.
    """


def leave_at_once() -> None:
    """Have signals end this process by itself; for the time before there is anything to take down."""
    for signum in SIGNALS:
        if not _is_ignored(signum):
            signal.signal(signum, lambda number, _: os._exit(128 + number))


class Signals:
    """Turns the first signal into `Stopped`, until `end()`; after that, and after the first, none matters."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._ended = False

    def guard(self, work: Callable[[], int]) -> int | None:
        """Return what `work` returns, or None when a signal ended it. Nothing interrupts what comes after."""
        self._watch()
        code = None
        try:
            try:
                code = work()
            finally:
                self.end()
        except Stopped:
            self.end()
        return code

    def end(self) -> None:
        """Interrupt nothing any more. Not by ignoring signals: processes inherit that."""
        self._ended = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _watch(self) -> None:
        signal.signal(signal.SIGALRM, self._raise_again)
        for signum in SIGNALS:
            if not _is_ignored(signum):
                signal.signal(signum, self._raise)

    def _raise(self, signum: int, _: FrameType | None) -> None:
        if self._ended or self.signum is not None:
            return
        self.signum = signum
        # What is raised while Python destroys an object is printed and lost.
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)
        raise Stopped

    def _raise_again(self, _signum: int, _: FrameType | None) -> None:
        if not self._ended:
            raise Stopped


def _is_ignored(signum: int) -> bool:
    """Whether whoever started this process wants it to live on: nohup does that with SIGHUP."""
    return signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN
