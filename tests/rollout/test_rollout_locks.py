"""Locks on tables: a migration neither keeps others waiting for long nor leaves a broken index."""

import threading

import psycopg2
import pytest

from apps.rollout.blockers import Blocker
from apps.rollout.errors import LockNotGranted, MigrationError
from apps.rollout.indexes import PATIENT, IndexBuild
from apps.rollout.migrate import migrate_once
from apps.rollout.models import MigrationRun
from apps.rollout.report import Outcome

pytestmark = pytest.mark.integration
INDEX = "CREATE INDEX CONCURRENTLY tide_id ON tide_mark (id)"


def migrate(say=str, **options):
    outcome = Outcome("here")
    migrate_once(outcome=outcome, timeout_s=5, say=say, using="scratch", verbosity=0, **options)
    return [name for name in outcome.applied if name.startswith("tide.")]


def indexes(others):
    """Each index of the app's table, and whether it is valid."""
    with others.cursor() as cursor:
        cursor.execute(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index"
            " WHERE indrelid = 'tide_mark'::regclass AND NOT indisprimary"
        )
        return dict(cursor.fetchall())


def run(others, *statements):
    with others.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def impatient(settings):
    settings.MIGRATION_LOCK_TIMEOUT_S = 0.3
    settings.MIGRATION_LOCK_WITHIN_S = 0.5


@pytest.fixture
def held(tide, others):
    """Somebody has a table open in a transaction."""
    migrate()
    run(others, "BEGIN", "INSERT INTO tide_mark DEFAULT VALUES")
    return others


def test_who_holds_the_lock_is_named_with_the_way_out(tide, held, settings):
    settings.MIGRATION_LOCK_TIMEOUT_S = 0.3
    settings.MIGRATION_LOCK_TRIES = 3
    tide.add("0002_mark", "ALTER TABLE tide_mark ADD height integer")
    with pytest.raises(LockNotGranted) as caught:
        migrate()
    pid = held.info.backend_pid
    text = str(caught.value)
    assert text.startswith("tide.0002_mark got no lock in 3 tries, ")
    assert "(canceling statement due to lock timeout): held by pid " in text
    assert f"held by pid {pid} (a forgotten shell, idle in transaction, for " in text
    assert f"Let it end or SELECT pg_terminate_backend({pid}), then deploy again." in text
    assert text.endswith(" Its query: INSERT INTO tide_mark DEFAULT VALUES")
    assert len(text) < 400


def test_a_statement_outside_of_a_transaction_is_tried_again_by_itself(tide, held, settings):
    settings.MIGRATION_LOCK_TIMEOUT_S = 0.3
    # The first of them could not be run twice.
    tide.add("0002_mark", "CREATE TABLE once ()", "ALTER TABLE tide_mark ADD height integer", atomic=False)
    said = []

    def say(text):
        said.append(text)
        if "no lock, try 2" in text:
            run(held, "COMMIT")

    assert migrate(say=say) == ["tide.0002_mark"]
    assert sum("tide.0002_mark: no lock, try" in text for text in said) == 2


def test_python_code_without_a_transaction_is_not_run_twice(tide, held, settings):
    settings.MIGRATION_LOCK_TIMEOUT_S = 0.3
    sql = "ALTER TABLE tide_mark ADD height integer"
    tide.add(
        "0002_mark",
        python=f"__import__('django.db.transaction').db.transaction.atomic('scratch')"
        f"(lambda: editor.connection.cursor().execute({sql!r}))()",
        atomic=False,
    )
    with pytest.raises(LockNotGranted, match=r"^tide\.0002_mark got no lock in time"):
        migrate()


def test_an_index_build_that_gets_no_lock_is_begun_anew_next_time(tide, held, impatient):
    tide.add("0002_mark", INDEX, atomic=False)
    with pytest.raises(LockNotGranted, match=r"^tide\.0002_mark got no lock in time"):
        migrate()
    run(held, "COMMIT")
    # Who keeps it from being built may also keep it from being dropped.
    assert indexes(held) == {"tide_id": False}
    assert migrate() == ["tide.0002_mark"]
    assert indexes(held) == {"tide_id": True}


def test_an_index_build_waits_longer_than_what_others_wait_for(tide, held, settings):
    settings.MIGRATION_LOCK_TIMEOUT_S = 0.3
    settings.MIGRATION_LOCK_TRIES = 1
    settings.MIGRATION_LOCK_WITHIN_S = 60
    tide.add("0002_mark", INDEX, atomic=False)
    said = []

    def say(text):
        said.append(text)
        if text.startswith("waiting for a lock held by pid"):
            threading.Timer(0.8, run, [held, "COMMIT"]).start()

    assert migrate(say=say) == ["tide.0002_mark"]
    assert indexes(held) == {"tide_id": True}


def test_a_unique_index_that_cannot_be_built_refuses_no_rows_afterwards(tide, others):
    migrate()
    run(others, "ALTER TABLE tide_mark ADD height integer", "INSERT INTO tide_mark (height) VALUES (1), (1)")
    sql = "CREATE UNIQUE INDEX CONCURRENTLY tide_height ON tide_mark (height)"
    tide.add("0002_mark", sql, atomic=False)
    with pytest.raises(MigrationError, match="could not create unique index"):
        migrate()
    assert indexes(others) == {}


def test_an_invalid_index_is_made_again_also_where_the_statement_would_pass_over_it(tide, others):
    migrate()
    leave_invalid(others, "tide_id")
    tide.add("0002_mark", INDEX.replace("tide_id", "IF NOT EXISTS tide_id", 1), atomic=False)
    assert migrate() == ["tide.0002_mark"]
    assert indexes(others) == {"tide_id": True}


def leave_invalid(others, name):
    run(others, "ALTER TABLE tide_mark ADD twin integer", "INSERT INTO tide_mark (twin) VALUES (1), (1)")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        run(others, f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON tide_mark (twin)")
    run(others, "DELETE FROM tide_mark")


def test_djangos_own_operation_makes_an_invalid_index_again(tide, others):
    migrate()
    leave_invalid(others, '"Tide Id"')
    (tide.folder / "0002_mark.py").write_text(
        "from django.contrib.postgres.operations import AddIndexConcurrently\n"
        "from django.db import migrations, models\n"
        "class Migration(migrations.Migration):\n"
        "    atomic = False\n"
        "    dependencies = [('tide', '0001_initial')]\n"
        "    operations = [AddIndexConcurrently('mark', models.Index(fields=['id'], name='Tide Id'))]\n"
    )
    tide.forget()
    assert migrate() == ["tide.0002_mark"]
    assert indexes(others) == {'"Tide Id"': True}


def test_a_complete_index_of_a_run_that_was_killed_before_it_was_recorded_is_made_again(tide, others):
    migrate()
    run(others, INDEX)
    tide.add("0002_mark", INDEX, atomic=False)
    MigrationRun.objects.using("scratch").create(
        host="gone", plan=["tide.0002_mark"], started_at="2026-01-01T00:00Z"
    )
    assert migrate() == ["tide.0002_mark"]
    assert indexes(others) == {"tide_id": True}


def test_a_complete_index_of_that_name_that_nobody_began_is_left_alone(tide, others):
    migrate()
    run(others, INDEX)
    tide.add("0002_mark", INDEX, atomic=False)
    with pytest.raises(MigrationError, match='relation "tide_id" already exists'):
        migrate()
    assert indexes(others) == {"tide_id": True}


def test_an_invalid_index_that_nobody_asks_for_is_told_and_kept(tide, others):
    migrate()
    leave_invalid(others, "tide_old")
    said = []
    migrate(say=said.append)
    assert said == [
        "no migrations to apply",
        (
            "warning: public.tide_old on tide_mark is INVALID: no query uses it, every write pays for it and "
            "no migration makes it anew. DROP INDEX CONCURRENTLY public.tide_old;"
        ),
    ]
    assert indexes(others) == {"tide_old": False}


@pytest.mark.parametrize(
    ("sql", "name", "table", "unless_there"),
    [
        ("CREATE INDEX CONCURRENTLY a ON b (c)", "a", "b", False),
        ('create unique index concurrently "A b" on only "S"."T t" (c)', '"A b"', '"S"."T t"', False),
        ("-- why\nCREATE INDEX CONCURRENTLY\n  IF NOT EXISTS a\n  ON s.b USING gin (c)", "a", "s.b", True),
    ],
)
def test_an_index_build_is_known_by_its_statement(sql, name, table, unless_there):
    assert IndexBuild.of(sql) == IndexBuild(name, table, unless_there)
    assert PATIENT.search(sql)


@pytest.mark.parametrize("sql", ["CREATE INDEX a ON b (c)", "ALTER TABLE a ADD b text", "SELECT 1"])
def test_other_statements_are_no_index_builds(sql):
    assert IndexBuild.of(sql) is None
    assert not PATIENT.search(sql)


@pytest.mark.parametrize("sql", ["DROP INDEX CONCURRENTLY a", "REFRESH MATERIALIZED VIEW CONCURRENTLY a"])
def test_nobody_waits_behind_these_either(sql):
    assert IndexBuild.of(sql) is None
    assert PATIENT.search(sql)


def test_a_prepared_transaction_has_no_process_to_end():
    blocker = Blocker(0, "", "", 0, "")
    assert "pg_prepared_xacts" in str(blocker)
    assert "ROLLBACK PREPARED" in blocker.way_out
