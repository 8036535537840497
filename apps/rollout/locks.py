"""The two locks of migrations, and the session that migrates.

Both are polled for. A session that *waits* in pg_advisory_lock holds a snapshot, which makes CREATE INDEX
CONCURRENTLY in the session that migrates wait for it: a deadlock, and an invalid index. Through pgbouncer in
transaction mode neither lock would be safe: migrations need a direct connection.
"""

import time
from contextlib import suppress
from hashlib import blake2b

from django.conf import settings
from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from apps.rollout.errors import LockNotGranted


def _key(name: str) -> int:
    # Any number would do, as long as every release has the same.
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)


# Who migrates: held on a connection of its own, so that a migration may close the other.
MIGRATE = _key("lockkeeper.rollout.migrate")
# Held by the session that migrates: PostgreSQL may still be at a statement whose process was killed.
AT_WORK = _key("lockkeeper.rollout.at-work")
POLL_S = 0.2


def try_lock(connection: BaseDatabaseWrapper, key: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
        return bool(cursor.fetchone()[0])


def holder_of(connection: BaseDatabaseWrapper, key: int) -> str:
    """Who holds a lock, in words; empty where nobody does any more."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT l.pid, a.application_name, a.client_addr
            FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND (l.classid::bigint << 32) | l.objid::bigint = %s
            """,
            [key],
        )
        found = cursor.fetchone()
    if not found:
        return ""
    pid, application, address = found
    return f"pid {pid} ({application or 'no application_name'}, from {address or 'this machine'})"


def set_for_session(connection: BaseDatabaseWrapper, **values: str) -> None:
    with connection.cursor() as cursor:
        for name, value in values.items():
            cursor.execute("SELECT set_config(%s, %s, false)", [name, value])


def end_with_client(connection: BaseDatabaseWrapper) -> None:
    """Have PostgreSQL notice soon that the process, or its whole host, is no more: not after hours."""
    # Settings that a server's system does not know are refused.
    with suppress(DatabaseError):
        set_for_session(
            connection,
            tcp_keepalives_idle="20",
            tcp_keepalives_interval="10",
            tcp_keepalives_count="3",
            client_connection_check_interval="1s",
        )


class WorkSession:
    """The session that migrates: it gives up waiting for a lock soon, and its work ends with its process."""

    def __init__(self, connection: BaseDatabaseWrapper, *, name: str) -> None:
        self.connection = connection
        self.name = name
        self.pid = 0

    def begin(self) -> bool:
        """Take the work lock and set the session up, unless that is done; False while it is not free."""
        self.connection.ensure_connection()
        pid = self.connection.connection.info.backend_pid
        if pid != self.pid:
            if not try_lock(self.connection, AT_WORK):
                return False
            self.pid = pid
            self.set(application_name=self.name)
            end_with_client(self.connection)
        self.set(
            lock_timeout=f"{settings.MIGRATION_LOCK_TIMEOUT_S}s",
            # One meant for requests would cut a long index build. The hook's own limit ends it.
            statement_timeout="0",
        )
        return True

    def renew(self) -> None:
        """Before each migration: the one before may have closed the connection or changed its settings."""
        deadline = time.monotonic() + 30
        while not self.begin():
            if time.monotonic() > deadline:
                raise LockNotGranted(
                    "Another session took over the migrations' work lock: "
                    f"{holder_of(self.connection, AT_WORK)}. When it has ended, deploy again."
                )
            time.sleep(POLL_S)

    def set(self, **values: str) -> None:
        set_for_session(self.connection, **values)
