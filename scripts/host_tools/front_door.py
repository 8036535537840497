"""gunicorn's configuration on a host: who accepts at the front door, and that slow clients hold nobody up.

Both the public and the private socket are handed to every release by systemd, and whoever accepts a
connection owns it: a new release that answers 500, or dies, would do so to real requests while it is still
being tried. So workers of a release that ``current`` does not name listen on its private socket alone. Once
the hooks have moved ``current`` they send HUP, on which gunicorn replaces the workers; with --preload that is
a fork.
"""

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

# The unit starts gunicorn in /srv/lockkeeper/releases/DIGEST.
RELEASE = Path.cwd()
CURRENT = RELEASE.parents[1] / "current"
LINGER_S = 2.0  # as long as gunicorn's own


def is_current() -> bool:
    """Whether the pointer names this release now."""
    return CURRENT.is_symlink() and CURRENT.readlink().name == RELEASE.name


def post_fork(_server: Any, worker: Any) -> None:
    """In a new worker, before it listens: https://gunicorn.org/reference/settings/#post_fork"""
    if not is_current():
        worker.sockets = [each for each in worker.sockets if each.sock.family == socket.AF_UNIX]


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gthread, but for where it waits for a client to read the end of its answer.

    gunicorn (27.0, gthread.finish_request) does so in the worker's main thread, which accepts nobody
    meanwhile: one slow client that sent "Connection: close" holds up all others for up to two seconds. Here
    the thread that answered the client waits for it, and leaves nothing to wait for.
    """

    def handle(self, conn: Any) -> Any:
        keep = super().handle(conn)
        if not keep:
            with contextlib.suppress(OSError):
                _linger(conn.sock)
        return keep


def _linger(client: socket.socket) -> None:
    """Say that nothing more comes, and wait until the client has closed its side too."""
    deadline = time.monotonic() + LINGER_S
    client.shutdown(socket.SHUT_WR)
    try:
        while (left := deadline - time.monotonic()) > 0:
            client.settimeout(left)
            if not client.recv(4096):
                break
    finally:
        client.shutdown(socket.SHUT_RDWR)


worker_class = PatientWorker
