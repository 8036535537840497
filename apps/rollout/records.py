"""MigrationRun in the database that is migrated, over a connection of its own.

That connection also holds the migration lock. So a run is only written by whoever has the lock, a migration
may close or misuse the other connection, and what is written here stays when a migration is rolled back.
"""

import time
from typing import Self

from django.db import InterfaceError, OperationalError, connections
from django.db.models import QuerySet
from django.utils import timezone

from apps.rollout.locks import MIGRATE, end_with_client, try_lock
from apps.rollout.models import MigrationRun

ALIAS = "rollout-records"
Result = MigrationRun.Result


class Records:
    """The runs of one database, as one host of one deployment sees and writes them."""

    def __init__(self, using: str, *, deployment: str, host: str, digest: str) -> None:
        self.using = using
        self.deployment = deployment[:128]
        self.host = host[:255]
        self.digest = digest
        self.run: MigrationRun | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        self.connection = connections[ALIAS] = connections[self.using].copy(ALIAS)
        options = self.connection.settings_dict["OPTIONS"]
        options["application_name"] = f"migrate_once {self.host}"[:56] + " (lock)"
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        del connections[ALIAS]

    @property
    def runs(self) -> QuerySet[MigrationRun]:
        # A newer release has columns that the table gets only by its own migrations.
        return MigrationRun.objects.using(ALIAS).only("host", "plan", "applied", "result", "error", "cause")

    def lock(self) -> bool:
        """Take the migration lock if it is free."""
        if not try_lock(self.connection, MIGRATE):
            return False
        end_with_client(self.connection)
        return True

    def exist(self) -> bool:
        """Whether there is a table yet: its own migration is among those of the first release that has it."""
        table = self.connection.ops.quote_name(MigrationRun._meta.db_table)
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [table])
            return bool(cursor.fetchone()[0])

    def last(self) -> MigrationRun | None:
        """This deployment's last run; None where there is none, or no deployment."""
        if not self.deployment or not self.exist():
            return None
        return self.runs.filter(deployment_id=self.deployment).order_by("-id").first()

    def newest(self) -> MigrationRun | None:
        """The last run of all, whosever it was."""
        return self.runs.order_by("-id").first() if self.exist() else None

    def close_dead(self) -> list[MigrationRun]:
        """Mark the runs abandoned that are not: nobody can be running, since the lock is ours."""
        if not self.exist():
            return []
        dead = list(self.runs.filter(result=Result.RUNNING))
        for run in dead:
            error = f"It ended on {run.host} without a result: it was killed, or lost its database."
            run.error = error
            self.runs.filter(pk=run.pk, result=Result.RUNNING).update(
                result=Result.ABANDONED, finished_at=timezone.now(), error=error
            )
        return dead

    def begun(self) -> set[str]:
        """The migrations that earlier runs were at when they ended; parts of them may be there."""
        ended = self.runs.filter(result__in=[Result.FAILED, Result.ABANDONED]).order_by("-id")[:100]
        unfinished = (next((name for name in run.plan if name not in run.applied), "") for run in ended)
        return set(filter(None, unfinished))

    def begin(self, plan: list[str], applied: list[str]) -> None:
        self._began = time.monotonic()
        self.run = MigrationRun.objects.using(ALIAS).create(
            deployment_id=self.deployment,
            digest=self.digest,
            host=self.host,
            plan=plan,
            applied=applied,
            started_at=timezone.now(),
        )

    def note(self, applied: list[str]) -> None:
        """What of the plan has been applied so far. Fails where the lock was lost with its connection."""
        if self.run:
            self.runs.filter(pk=self.run.pk).update(applied=applied)

    def finish(self, result: str, *, error: str = "", cause: str = "", reconnect: bool = True) -> None:
        """Write the outcome, if nobody has found the run dead meanwhile.

        A connection that was cut while the migrations ran is made anew, once. Raises OperationalError or
        InterfaceError when it cannot be written.
        """
        if not self.run:
            return
        values = {
            "result": result,
            "error": error,
            "cause": cause,
            "finished_at": timezone.now(),
            "seconds": round(time.monotonic() - self._began, 3),
        }
        running = self.runs.filter(pk=self.run.pk, result=Result.RUNNING)
        try:
            running.update(**values)
        except (OperationalError, InterfaceError):
            if not reconnect:
                raise
            self.connection.close()
            running.update(**values)
