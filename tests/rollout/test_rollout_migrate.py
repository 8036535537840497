"""Expand migrations are applied once; contract migrations wait."""

import threading

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import ProgrammingError, connections
from django.db.migrations.recorder import MigrationRecorder

from apps.rollout import plan
from apps.rollout.migrate import MigrationLockTimeout, migrate_once, migration_lock
from apps.rollout.plan import ContractInTheWay

pytestmark = pytest.mark.usefixtures("scratch")


def migrate(timeout_s=5, say=str):
    return migrate_once(timeout_s=timeout_s, say=say, using="scratch", verbosity=0)


def applied(scratch):
    return {name for _app, name in MigrationRecorder(scratch).applied_migrations()}


def unapplied(scratch):
    """As in a process that starts now: the list of migrations on disk is read once in each."""
    plan._expand_migrations.cache_clear()
    try:
        return [name for _app, name in plan.unapplied_expand(scratch)]
    finally:
        plan._expand_migrations.cache_clear()


def test_it_applies_what_is_missing_and_then_nothing(tide):
    tide.add("0002_mark")
    said = []
    assert migrate(say=said.append) == [("tide", "0001_initial"), ("tide", "0002_mark")]
    assert migrate(say=said.append) == []
    assert said == ["applied 2: tide.0001_initial, tide.0002_mark", "no migrations to apply"]


def test_contract_migrations_at_the_end_wait_and_readiness_ignores_them(tide, scratch):
    tide.add("0002_mark")
    tide.add("0003_drop", after="0002_mark", contract=True)
    tide.add("0004_drop_more", after="0003_drop", contract=True)
    migrate()
    assert applied(scratch) == {"0001_initial", "0002_mark"}
    assert unapplied(scratch) == []


def test_an_expand_migration_after_a_waiting_contract_is_refused_with_the_next_step(tide, scratch):
    tide.add("0002_drop", contract=True)
    tide.add("0003_mark", after="0002_drop")
    with pytest.raises(ContractInTheWay, match=r"manage\.py migrate tide 0002_drop"):
        migrate()
    assert applied(scratch) == set()


def test_after_the_contract_was_applied_on_purpose_the_rest_follows(tide, scratch):
    tide.add("0002_drop", contract=True)
    tide.add("0003_mark", after="0002_drop")
    call_command("migrate", "tide", "0002_drop", database="scratch", verbosity=0)
    migrate()
    assert applied(scratch) == {"0001_initial", "0002_drop", "0003_mark"}


def test_of_many_at_once_one_applies_them(tide):
    # Slow enough for all to have seen that something is missing.
    tide.add("0002_mark", sql="SELECT pg_sleep(1)")
    outcomes = []

    def deploy():
        try:
            outcomes.append(len(migrate(timeout_s=20)))
        finally:
            connections["scratch"].close()

    threads = [threading.Thread(target=deploy) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [0, 0, 0, 0, 2]


def test_waiting_for_the_lock_ends_at_the_deadline(tide, scratch):
    said = []
    with (
        migration_lock(scratch, timeout_s=1, say=str),
        pytest.raises(MigrationLockTimeout, match="pg_locks"),
    ):
        migrate(timeout_s=0.5, say=said.append)
    assert said == ["waiting for another host's migrations"]
    assert applied(scratch) == set()


def test_an_index_can_be_built_concurrently_while_another_host_waits(tide, scratch):
    """Waiting in pg_advisory_lock would deadlock with it, and leave an invalid index."""
    (tide.folder / "0002_index.py").write_text(
        "from django.db import migrations\n"
        "class Migration(migrations.Migration):\n"
        "    atomic = False\n"
        "    dependencies = [('tide', '0001_initial')]\n"
        "    operations = [migrations.RunSQL('SELECT pg_sleep(1)'),\n"
        "        migrations.RunSQL('CREATE INDEX CONCURRENTLY tide_id ON tide_mark (id)')]\n"
    )
    tide.forget()
    outcomes = []

    def deploy():
        try:
            outcomes.append(len(migrate(timeout_s=20)))
        finally:
            connections["scratch"].close()

    threads = [threading.Thread(target=deploy) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [0, 0, 2]
    with scratch.cursor() as cursor:
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'tide_id'::regclass")
        assert cursor.fetchone() == (True,)


def test_the_lock_is_free_again_after_a_failed_migration(tide):
    tide.add("0002_wrong", sql="SELECT no_such_column")
    for _ in range(2):
        with pytest.raises(ProgrammingError, match="no_such_column"):
            migrate(timeout_s=0.2)


def test_the_command_says_what_it_did(tide, capsys):
    call_command("migrate_once", database="scratch", verbosity=0)
    assert capsys.readouterr().out == "applied 1: tide.0001_initial\n"


def test_the_command_reports_a_timeout_as_an_error(tide, scratch):
    with (
        migration_lock(scratch, timeout_s=1, say=str),
        pytest.raises(CommandError, match="migration lock"),
    ):
        call_command("migrate_once", database="scratch", timeout=0.1, verbosity=0)


def test_readiness_asks_for_expand_migrations(tide, scratch):
    tide.add("0002_mark")
    assert unapplied(scratch) == ["0001_initial", "0002_mark"]
    migrate()
    assert unapplied(scratch) == []


def test_readiness_accepts_the_migrations_that_a_squashed_one_replaces(tide, scratch):
    migrate()
    content = (tide.folder / "0001_initial.py").read_text()
    replaces = 'initial = True\n    replaces = [("tide", "0001_initial")]'
    (tide.folder / "0001_squashed.py").write_text(content.replace("initial = True", replaces))
    tide.forget()
    assert unapplied(scratch) == []
