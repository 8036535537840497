"""Expand migrations are applied once; contract migrations wait."""

import json
import re

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from apps.rollout import plan
from apps.rollout.errors import AnotherFailed, LockNotGranted, MigrationError
from apps.rollout.locks import AT_WORK, MIGRATE
from apps.rollout.migrate import migrate_once
from apps.rollout.models import MigrationRun
from apps.rollout.plan import ContractInTheWay
from apps.rollout.report import Outcome

pytestmark = pytest.mark.usefixtures("scratch")


def migrate(timeout_s=5, say=str, **options):
    """What was applied, of the release's own migrations."""
    outcome = Outcome("here")
    migrate_once(outcome=outcome, timeout_s=timeout_s, say=say, using="scratch", verbosity=0, **options)
    return [name for name in outcome.applied if name.startswith("tide.")]


def runs():
    return list(MigrationRun.objects.using("scratch").order_by("id"))


def applied(scratch):
    """Of the app ``tide``."""
    return {name for app, name in MigrationRecorder(scratch).applied_migrations() if app == "tide"}


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
    assert migrate(say=said.append) == ["tide.0001_initial", "tide.0002_mark"]
    assert migrate(say=said.append) == []
    assert said == [
        "applied 3: rollout.0001_migrationrun, tide.0001_initial, tide.0002_mark",
        "no migrations to apply",
    ]


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


@pytest.mark.integration
def test_waiting_for_the_lock_ends_at_the_deadline_and_says_who_has_it(tide, scratch, others):
    others.cursor().execute("SELECT pg_advisory_lock(%s)", [MIGRATE])
    said = []
    with pytest.raises(LockNotGranted, match="has held the migration lock for 0 s") as caught:
        migrate(timeout_s=0.3, say=said.append)
    assert f"pid {others.info.backend_pid} (a forgotten shell, from " in str(caught.value)
    assert caught.value.cause == "lock-not-granted"
    assert said == ["waiting for another host's migrations"]
    assert applied(scratch) == set()


@pytest.mark.integration
def test_what_a_killed_run_left_at_work_in_postgresql_is_waited_for(tide, scratch, others):
    others.cursor().execute("SELECT pg_advisory_lock(%s)", [AT_WORK])
    with pytest.raises(LockNotGranted, match=f"pid {others.info.backend_pid} "):
        migrate(timeout_s=0.3)
    others.cursor().execute("SELECT pg_advisory_unlock(%s)", [AT_WORK])
    assert migrate() == ["tide.0001_initial"]


def test_the_locks_are_free_again_after_a_failed_migration(tide):
    tide.add("0002_wrong", "SELECT no_such_column")
    for _ in range(2):
        with pytest.raises(MigrationError, match="no_such_column"):
            migrate(timeout_s=0.2)


def test_without_a_deployment_each_try_is_a_new_one(tide):
    tide.add("0002_wrong", "SELECT no_such_column")
    for _ in range(2):
        with pytest.raises(
            MigrationError, match=r"^tide\.0002_wrong failed: ProgrammingError: .*no_such_column"
        ):
            migrate()
    assert [run.result for run in runs()] == ["failed", "failed"]


def test_a_failed_run_is_recorded_for_its_deployment(tide):
    tide.add("0002_mark")
    tide.add("0003_wrong", "SELECT no_such_column", after="0002_mark")
    with pytest.raises(MigrationError, match="Nothing of it remains") as caught:
        migrate(deployment="d-7", digest="a" * 64)
    (run,) = runs()
    assert (run.deployment_id, run.digest, run.host) == ("d-7", "a" * 64, "here")
    assert (run.result, run.error) == ("failed", str(caught.value))
    assert run.plan[1:] == ["tide.0001_initial", "tide.0002_mark", "tide.0003_wrong"]
    assert run.applied == run.plan[:-1]
    with pytest.raises(
        AnotherFailed, match=r"^here failed to apply this deployment's migrations; they are not"
    ):
        migrate(deployment="d-7")
    assert len(runs()) == 1


def test_the_deployment_after_a_failed_one_tries_again(tide):
    tide.add("0002_wrong", "SELECT no_such_column")
    with pytest.raises(MigrationError):
        migrate(deployment="d-7")
    tide.add("0002_wrong")
    assert migrate(deployment="d-8") == ["tide.0002_wrong"]


def test_what_python_code_raises_is_one_sentence(tide):
    tide.add("0002_mark", python="{}['tide']")
    text = r"^tide\.0002_mark failed: KeyError: 'tide'\. Nothing of it remains"
    with pytest.raises(MigrationError, match=text):
        migrate()


def test_migrations_that_cannot_be_read_are_one_sentence(tide):
    (tide.folder / "0002_mark.py").write_text("class Migration(:\n")
    tide.forget()
    with pytest.raises(MigrationError, match="The migrations cannot be read: SyntaxError"):
        migrate()


def test_a_session_that_an_administrator_ends_is_a_failure(tide, others):
    tide.add("0002_mark", "SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(MigrationError, match=r"tide\.0002_mark failed: its session was ended"):
        migrate(deployment="d-7")
    assert [run.result for run in runs()] == ["failed"]


def test_a_migration_may_close_its_connection(tide):
    tide.add("0002_mark", python="editor.connection.close()", atomic=False)
    tide.add("0003_mark", after="0002_mark")
    assert migrate() == ["tide.0001_initial", "tide.0002_mark", "tide.0003_mark"]


def test_a_run_that_nobody_runs_any_more_is_marked(tide):
    migrate()
    MigrationRun.objects.using("scratch").create(
        deployment_id="d-7", host="gone", plan=["tide.0002_mark"], started_at=timezone.now()
    )
    tide.add("0002_mark")
    said = []
    assert migrate(deployment="d-7", say=said.append) == ["tide.0002_mark"]
    assert [(run.host, run.result) for run in runs()][1:] == [("gone", "abandoned"), ("here", "applied")]
    assert "It ended on gone without a result" in said[0]


def test_a_dead_run_is_marked_also_when_nothing_is_left_to_do(tide):
    migrate()
    MigrationRun.objects.using("scratch").create(deployment_id="d-7", host="gone", started_at=timezone.now())
    assert migrate(deployment="d-7") == []
    assert [run.result for run in runs()] == ["applied", "abandoned"]


def test_only_one_run_at_a_time_can_be_recorded(tide):
    migrate()
    values = {"host": "here", "started_at": timezone.now()}
    MigrationRun.objects.using("scratch").create(**values)
    with pytest.raises(IntegrityError, match="rollout_migrationrun_one_runs"):
        MigrationRun.objects.using("scratch").create(**values)


def test_settings_of_the_session_are_only_for_the_migrations(tide, scratch):
    tide.add(
        "0002_mark",
        "CREATE TABLE sessions AS SELECT application_name FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'migrate_once%%'",
        "CREATE TABLE seen AS SELECT current_setting('lock_timeout') AS lock,"
        " current_setting('statement_timeout') AS statement, current_setting('application_name') AS name,"
        " current_setting('client_connection_check_interval') AS looks,"
        " current_setting('tcp_keepalives_idle') AS asks",
    )
    with scratch.cursor() as cursor:
        cursor.execute("SET statement_timeout = '7s'")
    migrate()
    with scratch.cursor() as cursor:
        cursor.execute("SELECT * FROM seen")
        assert cursor.fetchone() == ("5s", "0", "migrate_once here", "1s", "20")
        cursor.execute("SELECT application_name FROM sessions ORDER BY 1")
        assert cursor.fetchall() == [("migrate_once here",), ("migrate_once here (lock)",)]
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)


def test_only_the_index_build_itself_is_patient_with_locks(tide, scratch):
    tide.add(
        "0002_mark",
        "CREATE INDEX CONCURRENTLY tide_id ON tide_mark (id)",
        "CREATE TABLE seen AS SELECT current_setting('lock_timeout') AS lock",
        atomic=False,
    )
    migrate()
    with scratch.cursor() as cursor:
        cursor.execute("SELECT lock FROM seen")
        assert cursor.fetchone() == ("5s",)


def test_the_command_says_what_it_did(tide, capsys):
    call_command("migrate_once", database="scratch")
    assert re.fullmatch(
        r"rollout\.0001_migrationrun applied in \d+\.\d s\ntide\.0001_initial applied in \d+\.\d s\n"
        r"applied 2: rollout\.0001_migrationrun, tide\.0001_initial\n",
        capsys.readouterr().out,
    )


@pytest.mark.integration
def test_the_command_reports_a_timeout_as_an_error(tide, others):
    others.cursor().execute("SELECT pg_advisory_lock(%s)", [MIGRATE])
    with pytest.raises(CommandError, match="migration lock"):
        call_command("migrate_once", database="scratch", timeout=0.1)


def test_the_report_is_written_when_it_went_well(tide, tmp_path, monkeypatch):
    monkeypatch.setenv("HOST_NAME", "web-1")
    call_command("migrate_once", database="scratch", report=tmp_path / "report.json", verbosity=0)
    report = json.loads((tmp_path / "report.json").read_text())
    assert 0 < report.pop("seconds") < 60
    both = ["rollout.0001_migrationrun", "tide.0001_initial"]
    assert report == {
        "host": "web-1",
        "plan": both,
        "applied": both,
        "result": "applied",
        "error": "",
        "cause": None,
    }


def test_the_report_is_written_when_it_failed(tide, tmp_path, monkeypatch):
    monkeypatch.setenv("HOST_NAME", "web-1")
    (tmp_path / "report.json").write_text("of last year")
    tide.add("0002_wrong", "SELECT no_such_column")
    with pytest.raises(CommandError) as caught:
        call_command("migrate_once", database="scratch", report=tmp_path / "report.json", verbosity=0)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report.pop("seconds") > 0
    both = ["rollout.0001_migrationrun", "tide.0001_initial"]
    assert report == {
        "host": "web-1",
        "plan": [*both, "tide.0002_wrong"],
        "applied": both,
        "result": "failed",
        "error": str(caught.value),
        "cause": None,
    }
    assert [path.name for path in tmp_path.glob("*report*")] == ["report.json"]


def test_a_report_that_cannot_be_written_stops_before_anything_is_done(tide, tmp_path, scratch):
    with pytest.raises(CommandError, match="Name a file in a folder that exists"):
        call_command("migrate_once", database="scratch", report=tmp_path / "none/report.json")
    assert applied(scratch) == set()


def test_readiness_asks_for_expand_migrations(tide, scratch):
    tide.add("0002_mark")
    assert unapplied(scratch) == ["0001_migrationrun", "0001_initial", "0002_mark"]
    migrate()
    assert unapplied(scratch) == []


def test_readiness_accepts_the_migrations_that_a_squashed_one_replaces(tide, scratch):
    migrate()
    content = (tide.folder / "0001_initial.py").read_text()
    replaces = 'initial = True\n    replaces = [("tide", "0001_initial")]'
    (tide.folder / "0001_squashed.py").write_text(content.replace("initial = True", replaces))
    tide.forget()
    assert unapplied(scratch) == []
