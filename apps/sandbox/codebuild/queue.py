"""Builds wait for their turn, first come, first served."""

import threading
import time

from apps.sandbox.codebuild.shell import Interrupted


class BuildQueue:
    """Lets so many builds run at once; 0 is no limit."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: list[str] = []
        self._running: set[str] = set()
        self._changed = threading.Condition()

    def join(self, build_id: str) -> None:
        """Take a place at the end."""
        with self._changed:
            self._waiting.append(build_id)

    def enter(self, build_id: str, seconds: float, stopped: threading.Event) -> None:
        """Wait until it is this build's turn; raise Interrupted when stopped or out of time."""
        deadline = time.monotonic() + seconds
        with self._changed:
            try:
                while not self._is_next(build_id):
                    left = deadline - time.monotonic()
                    if stopped.is_set():
                        raise Interrupted("STOPPED")
                    if left <= 0:
                        raise Interrupted("TIMED_OUT")
                    # Stopping a build notifies nobody here, so it is looked for.
                    self._changed.wait(min(left, 0.2))
                self._running.add(build_id)
            finally:
                self._waiting.remove(build_id)
                self._changed.notify_all()

    def leave(self, build_id: str) -> None:
        """Make room for the next, also where the build ended before its turn came."""
        with self._changed:
            self._running.discard(build_id)
            if build_id in self._waiting:
                self._waiting.remove(build_id)
            self._changed.notify_all()

    def _is_next(self, build_id: str) -> bool:
        return not self._at_once or (self._waiting[0] == build_id and len(self._running) < self._at_once)
