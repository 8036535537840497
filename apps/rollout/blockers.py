"""Who keeps a migration waiting for a lock.

PostgreSQL can tell only while the waiting lasts, so a second connection looks during it.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

WHO = """
    SELECT x.pid, b.application_name, b.state,
        extract(epoch FROM now() - coalesce(b.xact_start, b.state_change))::float, left(b.query, 100)
    FROM pg_stat_activity w
    CROSS JOIN LATERAL (SELECT DISTINCT unnest(pg_blocking_pids(w.pid)) AS pid) x
    LEFT JOIN pg_stat_activity b ON b.pid = x.pid
    WHERE w.pid = %s AND w.wait_event_type = 'Lock' AND (x.pid = 0 OR b.pid IS NOT NULL)
    ORDER BY coalesce(b.xact_start, b.state_change)
"""


@dataclass(frozen=True)
class Blocker:
    """A session that holds what a migration waits for; ``pid`` 0 is a prepared transaction."""

    pid: int
    application: str
    state: str
    seconds: float
    query: str

    def __str__(self) -> str:
        if not self.pid:
            return "a prepared transaction (see pg_prepared_xacts)"
        who = f"pid {self.pid} ({self.application or 'no application_name'}, {self.state or 'state hidden'}"
        return f"{who}, for {self.seconds:.0f} s)"

    @property
    def way_out(self) -> str:
        if not self.pid:
            return "COMMIT PREPARED or ROLLBACK PREPARED it"
        return f"let it end or SELECT pg_terminate_backend({self.pid})"


class BlockerWatch:
    """Looks every now and then, in a thread, who blocks the session ``pid``; ``seen`` is the last it saw."""

    def __init__(self, connection: BaseDatabaseWrapper, *, every_s: float, say: Callable[[str], Any]) -> None:
        self.pid = 0
        self.seen: list[Blocker] = []
        self._told: set[int] = set()
        self._like = connection
        self._every_s = every_s
        self._say = say
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="blockers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        # Connected before there is something to see.
        self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def describe(self) -> tuple[str, str]:
        """Who was seen, and the way out; both as a clause."""
        if not self.seen:
            return (
                "who held it was not seen",
                "look for the oldest xact_start in pg_stat_activity, let it end",
            )
        first = self.seen[0]
        more = f" and {len(self.seen) - 1} more" if len(self.seen) > 1 else ""
        return f"held by {first}{more}", first.way_out

    def _look(self) -> None:
        connection = self._like.copy()
        try:
            with suppress(Error):
                connection.ensure_connection()
            self._ready.set()
            while not self._stop.wait(self._every_s):
                if self.pid:
                    self._ask(connection)
        finally:
            connection.close()

    def _ask(self, connection: BaseDatabaseWrapper) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute(WHO, [self.pid])
                rows = cursor.fetchall()
        except Error:
            # The migration itself will say what is wrong with the database.
            connection.close()
            return
        if not rows:
            return
        self.seen = [
            Blocker(pid, name or "", state or "", seconds or 0.0, " ".join((query or "").split()))
            for pid, name, state, seconds, query in rows
        ]
        first = self.seen[0]
        if first.pid not in self._told:
            self._told.add(first.pid)
            self._say(f"waiting for a lock held by {first}: {first.query}")
