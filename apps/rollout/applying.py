"""Run migrations without stopping the release that serves: no long wait for a lock, no broken index left.

Whoever waits for a lock on a table makes everybody behind it wait too. So a migration gives up after
MIGRATION_LOCK_TIMEOUT_S, lets the others through, and tries again.
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.commands.migrate import Command as MigrateCommand
from django.db import DatabaseError, Error, OperationalError
from django.db.migrations.migration import Migration

from apps.rollout.blockers import BlockerWatch
from apps.rollout.errors import LockNotGranted, in_one_line, is_lock_error
from apps.rollout.indexes import PATIENT, IndexBuild, drop
from apps.rollout.locks import WorkSession
from apps.rollout.plan import Key, label_of

Say = Callable[[str], Any]


class Patience:
    """How often, and for how long, one lock is asked for."""

    def __init__(self, what: str, watch: BlockerWatch, say: Say) -> None:
        self.what = what
        self._watch = watch
        self._say = say
        self._tries = 0
        self._began = 0.0

    def wait(self, error: Exception) -> None:
        """Let others through before the next try; raise LockNotGranted when there have been enough."""
        timeout, tries = settings.MIGRATION_LOCK_TIMEOUT_S, settings.MIGRATION_LOCK_TRIES
        self._began = self._began or time.monotonic() - timeout
        self._tries += 1
        if self._tries >= tries or time.monotonic() - self._began > settings.MIGRATION_LOCK_WITHIN_S:
            raise self.refusal(error) from error
        # At random: what it ran into may come at regular times.
        pause = random.uniform(0.5, 1.5) * timeout  # noqa: S311 - nothing secret
        holder, _way_out = self._watch.describe()
        self._say(
            f"{self.what}: no lock, try {self._tries} of {tries} ({holder}); trying again in {pause:.1f} s"
        )
        time.sleep(pause)

    def refusal(self, error: Exception) -> LockNotGranted:
        holder, way_out = self._watch.describe()
        query = f" Its query: {self._watch.seen[0].query}" if self._watch.seen else ""
        tried = "in time"
        if self._tries:
            tries = f"{self._tries} tries" if self._tries > 1 else "1 try"
            tried = f"in {tries}, {time.monotonic() - self._began:.0f} s"
        return LockNotGranted(
            f"{self.what} got no lock {tried} ({in_one_line(error)[:60]}): {holder}. "
            f"{way_out[0].upper()}{way_out[1:]}, then deploy again.{query}"
        )


class Applying:
    """Applies migrations in a work session; ``applied`` grows with each, and ``note`` is told of it."""

    def __init__(
        self, session: WorkSession, *, say: Say, note: Callable[[list[str]], None], verbosity: int
    ) -> None:
        self.session = session
        self.connection = session.connection
        self.applied: list[str] = []
        # What earlier runs were at when they ended: an index of theirs may be there, complete.
        self.begun: set[str] = set()
        # The one that is being applied.
        self.current: Migration | None = None
        self._note = note
        self._say = say
        self._verbosity = verbosity
        self._own = False
        self._started = 0.0

    @property
    def label(self) -> str:
        return label_of((self.current.app_label, self.current.name)) if self.current else "migrate"

    def apply(self, targets: list[Key] | None) -> None:
        """Migrate to ``targets``, or all there is where it is None.

        Raises LockNotGranted, and whatever a migration raises.
        """
        every_s = min(0.5, settings.MIGRATION_LOCK_TIMEOUT_S / 5)
        with (
            BlockerWatch(self.connection, every_s=every_s, say=self._say) as self.watch,
            self.connection.execute_wrapper(self._execute),
        ):
            self.patience = self._patience()
            while True:
                try:
                    return self._migrate(targets)
                except OperationalError as error:
                    if not is_lock_error(error):
                        raise
                    if self.current and not self.current.atomic:
                        # Within a transaction of its own; what came before it cannot be run again.
                        raise self.patience.refusal(error) from error
                    self.patience.wait(error)

    def _migrate(self, targets: list[Key] | None) -> None:
        self.current = None
        options: dict[str, Any] = {
            "database": self.connection.alias,
            "interactive": False,
            "verbosity": max(0, self._verbosity - 1),
            "skip_checks": True,
        }
        for target in [()] if targets is None else targets:
            call_command(_Migrate(self._step), *target, **options)

    def _step(self, action: str, migration: Migration | None) -> None:
        if action == "apply_start":
            self.current = migration
            self.session.renew()
            self.watch.pid = self.session.pid
            self._started = time.monotonic()
            if self.patience.what != self.label:
                self.patience = self._patience()
                self.watch.seen = []
        elif action == "apply_success":
            self.applied.append(self.label)
            if self._verbosity:
                self._say(f"{self.label} applied in {time.monotonic() - self._started:.1f} s")
            self._note(self.applied)
            self.current = None

    def _patience(self) -> Patience:
        return Patience(self.label, self.watch, self._say)

    def _execute(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Each statement of a migration. Outside of a transaction it is tried again by itself."""

        def run() -> Any:
            return execute(sql, params, many, context)

        if self._own or self.connection.in_atomic_block or not isinstance(sql, str):
            return run()
        if PATIENT.search(sql):
            return self._concurrently(run, IndexBuild.of(sql))
        patience = self._patience()
        while True:
            try:
                return run()
            except OperationalError as error:
                if not is_lock_error(error):
                    raise
                patience.wait(error)

    def _concurrently(self, run: Callable[[], Any], build: IndexBuild | None) -> Any:
        """Nobody waits behind such a statement, so it may wait for long; cut, it leaves ruins."""
        self._own = True
        try:
            self.session.set(lock_timeout=f"{settings.MIGRATION_LOCK_WITHIN_S}s")
            if build:
                self._make_room(build)
            return run()
        except DatabaseError as error:
            if build:
                self._clear_away(build)
            if is_lock_error(error):
                raise self._patience().refusal(error) from error
            raise
        finally:
            with suppress(Error):
                self.session.set(lock_timeout=f"{settings.MIGRATION_LOCK_TIMEOUT_S}s")
            self._own = False

    def _make_room(self, build: IndexBuild) -> None:
        index = build.existing(self.connection)
        if index is None:
            return
        if not index.valid:
            self._say(f"{index.name} is INVALID, its build was broken off: it is dropped and made anew")
            drop(self.connection, index)
        elif self.label in self.begun and not build.unless_there:
            self._say(f"{index.name} is from a run that did not finish {self.label}: it is made anew")
            drop(self.connection, index)

    def _clear_away(self, build: IndexBuild) -> None:
        try:
            self.session.set(lock_timeout=f"{settings.MIGRATION_LOCK_TIMEOUT_S}s")
            index = build.existing(self.connection)
            if index and not index.valid:
                drop(self.connection, index)
        except Error:
            self._say(f"warning: index {build.name} may have stayed, INVALID; the next try drops it first")


class _Migrate(MigrateCommand):
    """Django's own, telling another of each step."""

    def __init__(self, step: Callable[[str, Migration | None], None]) -> None:
        super().__init__()
        self._step = step

    def migration_progress_callback(
        self, action: str, migration: Migration | None = None, fake: bool = False
    ) -> None:
        self._step(action, migration)
