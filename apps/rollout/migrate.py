"""Apply a release's expand migrations once, however many hosts deploy it at the same moment."""

import random
import time
from contextlib import suppress
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import Error, InterfaceError, OperationalError, connections
from django.db.migrations.executor import MigrationExecutor

from apps.errors import DomainError
from apps.rollout.applying import Applying, Say
from apps.rollout.errors import (
    AnotherFailed,
    DatabaseAway,
    LockNotGranted,
    MigrationError,
    in_one_line,
    is_lost_connection,
)
from apps.rollout.indexes import invalid_indexes
from apps.rollout.locks import AT_WORK, MIGRATE, POLL_S, WorkSession, holder_of
from apps.rollout.models import MigrationRun
from apps.rollout.plan import Key, expand_targets, label_of
from apps.rollout.records import Records, Result
from apps.rollout.report import Outcome

OWN = "rollout"


def migrate_once(
    *,
    outcome: Outcome,
    timeout_s: float,
    say: Say,
    deployment: str = "",
    digest: str = "",
    using: str = "default",
    verbosity: int = 1,
) -> None:
    """Apply the expand migrations that are missing, or wait until another host has; ``outcome`` says which.

    Hosts of one ``deployment`` share an outcome: where one has failed, the others fail without trying again.
    Waits up to ``timeout_s`` seconds for whoever migrates now. Raises a DomainError with the next step.
    """
    began = time.monotonic()
    try:
        with Records(using, deployment=deployment, host=outcome.host, digest=digest) as records:
            _Attempt(records, outcome=outcome, say=say, verbosity=verbosity).run(timeout_s)
    except Error as error:
        raise _database_problem(error) from error
    finally:
        outcome.seconds = round(time.monotonic() - began, 3)
        # Its settings and its lock were for this only.
        connections[using].close()


class _Attempt:
    """One host's way to a migrated database."""

    def __init__(self, records: Records, *, outcome: Outcome, say: Say, verbosity: int) -> None:
        self.records = records
        self.outcome = outcome
        self.say = say
        self.connection = connections[records.using]
        self.session = WorkSession(self.connection, name=f"migrate_once {outcome.host}"[:63])
        self.applying = Applying(self.session, say=say, note=records.note, verbosity=verbosity)
        self.targets: list[Key] = []
        self.all_of_them = True
        self.locked = False

    def run(self, timeout_s: float) -> None:
        missing = self.find_missing()
        last = self.last_unless_failed()
        if not missing and not (last and last.result == Result.RUNNING):
            return self.nothing_to_do(last)
        self.outcome.plan = [label_of(key) for key in missing]
        deadline = time.monotonic() + timeout_s
        told = False
        while not self.take_locks():
            last = self.last_unless_failed()
            if last and last.result == Result.APPLIED and not self.find_missing():
                return self.nothing_to_do(last)
            if time.monotonic() > deadline:
                self.give_up(timeout_s)
            if not told:
                self.say("waiting for another host's migrations")
                told = True
            # Hosts of one deployment start together; at random they do not also ask together.
            time.sleep(random.uniform(1, 4) * POLL_S)  # noqa: S311 - nothing secret
        return self.run_locked()

    def find_missing(self) -> list[Key]:
        """The migrations to apply, in order; also works out how to tell Django."""
        try:
            executor = MigrationExecutor(self.connection)
            self.targets, missing = expand_targets(executor)
        except (DomainError, Error, ImproperlyConfigured):
            raise
        except Exception as error:
            kind = type(error).__name__
            raise MigrationError(f"The migrations cannot be read: {kind}: {in_one_line(error)}") from error
        self.all_of_them = not set(executor.loader.graph.leaf_nodes()) - set(self.targets)
        return missing

    def last_unless_failed(self) -> MigrationRun | None:
        """This deployment's last run; raise AnotherFailed where that is its outcome."""
        last = self.records.last()
        if last and last.result == Result.FAILED:
            self.outcome.host, self.outcome.plan = last.host, last.plan
            raise AnotherFailed(
                f"{last.host} failed to apply this deployment's migrations; they are not tried again in it, "
                f"a new deployment may. It said: {last.error}",
                last.cause,
            )
        return last

    def take_locks(self) -> bool:
        self.locked = self.locked or self.records.lock()
        return self.locked and self.session.begin()

    def give_up(self, timeout_s: float) -> NoReturn:
        # Rather the session that works: ended, it is recorded as failed; the other only holds the lock.
        connection = self.records.connection
        holder = holder_of(connection, AT_WORK) or holder_of(connection, MIGRATE)
        raise LockNotGranted(
            f"Another process has held the migration lock for {timeout_s:.0f} s: "
            f"{holder or 'it has just ended'}. "
            "See what it is at in pg_stat_activity (docs/migrations.md); when it has ended, deploy again."
        )

    def nothing_to_do(self, last: MigrationRun | None) -> None:
        by = last if last and last.host != self.outcome.host else None
        if self.outcome.plan:
            # It was missing when we looked first: perhaps for another deployment, or an operator.
            by = by or self.records.newest()
        if by and by.result == Result.APPLIED:
            self.outcome.host, self.outcome.result = by.host, "by-another"
            self.say(f"another host ({by.host}) has applied the migrations")
        else:
            self.outcome.result = "nothing"
            self.say("no migrations to apply")
            self.warn_of_invalid_indexes()

    def run_locked(self) -> None:
        for run in self.records.close_dead():
            self.say(f"an earlier run was broken off, and is taken up from where it was: {run.error}")
        last = self.last_unless_failed()
        missing = self.find_missing()  # again: another host may have applied them meanwhile
        if not missing:
            return self.nothing_to_do(last)
        plan = [label_of(key) for key in missing]
        self.outcome.plan = plan
        self.outcome.applied = self.applying.applied
        try:
            if any(app == OWN for app, _name in missing):
                # First of all: without its table there is nowhere to write the rest.
                self.applying.apply([target for target in self.targets if target[0] == OWN])
            self.applying.begun = self.records.begun()
            self.records.begin(plan, self.applying.applied)
            apps = {app for app, _name in missing}
            self.applying.apply(
                None if self.all_of_them else [target for target in self.targets if target[0] in apps]
            )
        except Exception as error:
            raise self.record_failure(error) from error
        except BaseException:
            with suppress(Error):
                self.records.finish(Result.ABANDONED, error="It was interrupted.")
            raise
        self.record_success()
        shown = self.applying.applied
        self.say(f"applied {len(shown)}: {', '.join(shown[-5:])}")
        self.outcome.result = "applied"
        self.warn_of_invalid_indexes()
        return None

    def record_success(self) -> None:
        try:
            self.records.finish(Result.APPLIED)
        except (OperationalError, InterfaceError) as error:
            raise DatabaseAway(
                f"All migrations are applied, but PostgreSQL was lost before that was recorded "
                f"({in_one_line(error)}). When it is back, run this again: it will find nothing to apply."
            ) from error

    def record_failure(self, error: Exception) -> DomainError:
        """Write down that this run failed, and return the error that says so."""
        lost = is_lost_connection(error)
        problem = self.problem_of(error)
        try:
            if lost:
                # Whether the server has gone, or only our session was ended: then it takes new ones.
                self.connection.close()
                self.connection.ensure_connection()
            # Where the server was gone, the old connection is too: then the next run takes this one up.
            self.records.finish(
                Result.FAILED,
                error=str(problem),
                cause=getattr(problem, "cause", ""),
                reconnect=not lost,
            )
        except (OperationalError, InterfaceError):
            if lost:
                return DatabaseAway(
                    f"PostgreSQL was lost in the middle of {self.applying.label} ({in_one_line(error)}). "
                    f"{self.what_remains()} When it is back, run this again."
                )
        return problem

    def problem_of(self, error: Exception) -> DomainError:
        if isinstance(error, DomainError):
            return error
        if isinstance(error, CommandError):
            return MigrationError(in_one_line(error))
        kind = "its session was ended" if is_lost_connection(error) else type(error).__name__
        return MigrationError(
            f"{self.applying.label} failed: {kind}: {in_one_line(error)[:800]}. {self.what_remains()} "
            "Mend it and deploy again."
        )

    def what_remains(self) -> str:
        current = self.applying.current
        if current is None:
            return "What was applied stays applied."
        if current.atomic:
            return "Nothing of it remains; what was applied before it stays."
        return "It is not atomic: what it had done stays."

    def warn_of_invalid_indexes(self) -> None:
        for index in invalid_indexes(self.records.connection):
            self.say(
                f"warning: {index.name} on {index.table} is INVALID: no query uses it, every write pays for "
                f"it and no migration makes it anew. DROP INDEX CONCURRENTLY {index.name};"
            )


def _database_problem(error: Any) -> DomainError:
    if is_lost_connection(error):
        return DatabaseAway(
            f"PostgreSQL does not answer ({in_one_line(error)}). Check that it runs and that DATABASE_URL "
            "points to it, then run this again: what was applied stays applied."
        )
    return MigrationError(
        f"PostgreSQL refused: {in_one_line(error)}. Check the rights of the database user, then deploy again."
    )
