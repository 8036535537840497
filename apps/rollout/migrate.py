"""Apply a release's expand migrations once, however many hosts deploy it at the same moment."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

from django.core.management import call_command
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from apps.errors import Unavailable
from apps.rollout.plan import Key, expand_targets

# Any number would do, as long as every release has the same.
LOCK = int.from_bytes(blake2b(b"lockkeeper.rollout.migrate", digest_size=8).digest(), signed=True)
POLL_S = (0.2, 0.8)

Say = Callable[[str], Any]


class MigrationLockTimeout(Unavailable):
    """Somebody else has been migrating for longer than we were told to wait."""


def migrate_once(*, timeout_s: float, say: Say, using: str = "default", verbosity: int = 1) -> list[Key]:
    """Apply the expand migrations that are missing and return them; empty when another did, or nothing was.

    Waits up to ``timeout_s`` seconds for whoever migrates now. Raises MigrationLockTimeout after that, and
    ContractInTheWay.
    """
    connection = connections[using]
    if not expand_targets(MigrationExecutor(connection))[1]:
        say("no migrations to apply")
        return []
    with migration_lock(connection, timeout_s=timeout_s, say=say):
        executor = MigrationExecutor(connection)  # again: another host may have applied them meanwhile
        targets, missing = expand_targets(executor)
        if not missing:
            say("another host has applied the migrations")
            return []
        options = {"database": using, "interactive": False, "verbosity": verbosity, "skip_checks": True}
        apps = {app for app, _name in missing}
        waiting = set(executor.loader.graph.leaf_nodes()) - set(targets)
        if not waiting:
            call_command("migrate", **options)
        for app, name in targets if waiting else ():
            if app in apps:
                call_command("migrate", app, name, **options)
        say(f"applied {len(missing)}: {', '.join(f'{app}.{name}' for app, name in missing[-5:])}")
        return missing


@contextmanager
def migration_lock(connection: BaseDatabaseWrapper, *, timeout_s: float, say: Say) -> Iterator[None]:
    """Hold the database's migration lock; PostgreSQL frees it when this process or its connection dies.

    It is polled for. A session that *waits* in pg_advisory_lock holds a snapshot, which makes
    CREATE INDEX CONCURRENTLY in the session that migrates wait for it: a deadlock, and an invalid index.
    It is held on a connection of its own, so that a migration may close the other. Through pgbouncer in
    transaction mode neither would be safe: migrations need a direct connection.

    Raises MigrationLockTimeout after ``timeout_s`` seconds.
    """
    holder = connection.copy()
    deadline = time.monotonic() + timeout_s
    told = False
    try:
        while not _try_lock(holder):
            if time.monotonic() > deadline:
                raise MigrationLockTimeout(
                    f"Another process has held the migration lock for {timeout_s:.0f} s. Look for it in "
                    "pg_locks (locktype advisory); when it has ended, run the deployment again."
                )
            if not told:
                say("waiting for another host's migrations")
                told = True
            # Hosts of one deployment start together; at random they do not also ask together.
            time.sleep(random.uniform(*POLL_S))  # noqa: S311 - nothing secret
        yield
    finally:
        holder.close()


def _try_lock(holder: BaseDatabaseWrapper) -> bool:
    with holder.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])
