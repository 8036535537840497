"""Which migrations a release needs before it serves, and which must wait.

An *expand* migration leaves a database that the release before can still use. A *contract* migration takes
away what that release needs; its module says so with ``contract = True``. It is applied on purpose, when
every host runs the new release and the way back has been given up; until then it is the last of its app.
"""

import sys
from collections.abc import Iterable
from functools import cache

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.recorder import MigrationRecorder

from apps.errors import DomainError

Key = tuple[str, str]


class ContractInTheWay(DomainError):
    """An expand migration comes after a contract migration that has not been applied."""


def label_of(key: Key) -> str:
    """How people write a migration: app.0001_name."""
    return ".".join(key)


def is_contract(migration: Migration) -> bool:
    """Whether the migration's module marks it as one that waits."""
    return bool(getattr(sys.modules[type(migration).__module__], "contract", False))


def expand_targets(executor: MigrationExecutor) -> tuple[list[Key], list[Key]]:
    """Return each app's newest expand migration, and the migrations that lead there and are not applied.

    Raises ContractInTheWay when there is no way to them around a contract migration.
    """
    graph = executor.loader.graph
    applied = executor.loader.applied_migrations
    targets: list[Key] = []
    for leaf in graph.leaf_nodes():
        ends: list[Key] = [leaf]
        while ends and (contract := next((key for key in ends if _waits(executor, key)), None)):
            ends.remove(contract)
            parents = (parent.key for parent in graph.node_map[contract].parents)
            ends += [key for key in parents if key[0] == contract[0]]
        targets += ends
    plan = [migration for migration, backwards in executor.migration_plan(targets) if not backwards]
    for migration in plan:
        if is_contract(migration):
            after = next(m for m in plan if (migration.app_label, migration.name) in m.dependencies)
            raise ContractInTheWay(
                f"{after} comes after {migration}, a contract migration that has not been applied. When "
                "every host runs a release that can do without what it removes, apply it on purpose: "
                f"manage.py migrate {migration.app_label} {migration.name}"
            )
    return targets, [(m.app_label, m.name) for m in plan if (m.app_label, m.name) not in applied]


def unapplied_expand(connection: BaseDatabaseWrapper) -> list[Key]:
    """The expand migrations of this release that the database lacks. Asks only what is applied.

    Raises OperationalError when the database does not answer.
    """
    applied = MigrationRecorder(connection).applied_migrations()
    return [
        key for key, replaces in _expand_migrations() if key not in applied and not _all_in(replaces, applied)
    ]


@cache
def _expand_migrations() -> list[tuple[Key, tuple[Key, ...]]]:
    """Every expand migration on disk, with what it replaces; read once, since a release does not change."""
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    return sorted(
        (key, tuple((app, name) for app, name in migration.replaces))
        for key, migration in (loader.disk_migrations or {}).items()
        if not is_contract(migration)
    )


def _all_in(keys: Iterable[Key], applied: Iterable[Key]) -> bool:
    keys = list(keys)
    return bool(keys) and all(key in applied for key in keys)


def _waits(executor: MigrationExecutor, key: Key) -> bool:
    return key not in executor.loader.applied_migrations and is_contract(executor.loader.graph.nodes[key])
