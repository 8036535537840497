"""Reconcilers as processes, killed at the worst moment."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, transaction

from apps.deployments.foreign import watch_groups
from apps.deployments.models import Deployment, GroupWatch, Occupancy
from apps.deployments.services import SEND_WITHIN
from apps.leases import database_time
from apps.promotions.models import Promotion
from apps.sandbox.faults import Settings
from tests.promotions.cast import Cast
from tests.promotions.codedeploy_server import Server

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]
LIBC = ctypes.CDLL(None)


def die_with_the_test() -> None:
    LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, linux/prctl.h


def environment(server, **more):
    settings = connection.settings_dict
    place = {
        "PGHOST": settings["HOST"],
        "PGPORT": str(settings["PORT"] or 5432),
        "PGUSER": settings["USER"],
        "PGPASSWORD": settings["PASSWORD"],
    }
    return {
        **os.environ,
        **{name: value for name, value in place.items() if value},
        # Whatever the URL leaves out, libpq takes from the variables above.
        "DATABASE_URL": f"postgresql:///{settings['NAME']}",
        "SECRET_KEY": "for-tests-only",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        **more,
    }


class Workers:
    def __init__(self, server, log):
        self.server, self.log, self.running = server, log, []

    def start(self, *arguments, **variables):
        command = [sys.executable, "manage.py", "reconcile", "--idle", "0.1", "--lease", "2", *arguments]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(self.server, **variables),
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_the_test,
        )
        self.running.append(process)
        return process

    def end(self):
        for process in self.running:
            process.kill()
            process.wait()


@pytest.fixture
def server():
    with Server() as server:
        yield server


@pytest.fixture
def workers(server, tmp_path):
    workers = Workers(server, tmp_path / "reconcile.log")
    yield workers
    workers.end()


def until(condition, workers, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, workers.log.read_text()
        time.sleep(0.05)


def succeeded(promotion):
    return lambda: Promotion.objects.filter(pk=promotion.pk, status=Promotion.Status.SUCCEEDED).exists()


def test_killed_between_createdeployment_and_its_note_there_is_one_deployment(server, workers):
    promotion = Cast().request()
    server.hold.clear()
    first = workers.start()
    until(server.made.is_set, workers)
    # CodeDeploy has made it; the worker has not heard so.
    first.kill()
    first.wait()
    server.hold.set()
    deployment = Deployment.objects.get()
    assert (deployment.status, deployment.codedeploy_id) == (Deployment.Status.INTENDED, None)
    assert deployment.asked_at is not None

    workers.start()
    workers.start()
    until(succeeded(promotion), workers)
    assert server.asked == 1
    assert [each["description"] for each in server.deployments.values()] == [
        f"lockkeeper:{deployment.intent}"
    ]
    assert Occupancy.objects.current().get().release == promotion.release


def test_a_worker_that_was_asleep_does_not_write_over_the_one_that_took_over(server, workers):
    promotion = Cast().request()
    server.hold.clear()
    first = workers.start()
    until(server.made.is_set, workers)
    first.send_signal(signal.SIGSTOP)
    server.hold.set()
    workers.start()
    until(succeeded(promotion), workers)
    # It gives the lease back after it has written the end.
    until(lambda: not Deployment.objects.get().lease_owner, workers)
    before = Deployment.objects.values().get()
    first.send_signal(signal.SIGCONT)
    until(lambda: "lease lost" in workers.log.read_text(), workers)
    assert Deployment.objects.values().get() == before
    assert server.asked == 1


@pytest.fixture
def looking(server, workers):
    """A worker that was throttled once and now looks, before it asks again, for what it may have made."""
    server.hold_list.clear()
    server.faults.use(Settings(operations=("CreateDeployment",), throttled=1.0))
    Cast().request()
    # What others deploy is looked for in the same way, and is not meant here.
    watch_groups()
    GroupWatch.objects.update(lease_until=database_time(timedelta(hours=1)))
    worker = workers.start()
    until(server.listing.is_set, workers)
    server.faults.use(Settings())
    return worker


def test_a_worker_that_was_asleep_before_asking_does_not_ask_once_another_has(server, workers, looking):
    looking.send_signal(signal.SIGSTOP)
    server.hold_list.set()
    workers.start()
    until(lambda: Deployment.objects.get().status == Deployment.Status.SUCCEEDED, workers)
    # It gives the lease back after it has written the end.
    until(lambda: not Deployment.objects.get().lease_owner, workers)
    before = Deployment.objects.values().get()
    looking.send_signal(signal.SIGCONT)
    until(lambda: "lease lost" in workers.log.read_text(), workers)
    assert server.asked == 1
    assert Deployment.objects.values().get() == before


def test_a_worker_that_slept_between_its_note_and_asking_does_not_ask(server, workers, looking):
    with transaction.atomic():
        deployment = Deployment.objects.select_for_update().get()
        server.hold_list.set()
        # It is about to note when it asks, and waits for this row.
        until(waits_for_a_row, workers)
        looking.send_signal(signal.SIGSTOP)
    until(lambda: Deployment.objects.get().asked_at > deployment.asked_at, workers)
    time.sleep(SEND_WITHIN + 0.5)
    looking.send_signal(signal.SIGCONT)
    until(lambda: "too long between taking the lease and asking" in workers.log.read_text(), workers)
    assert server.asked == 0
    looking.kill()


def waits_for_a_row():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone()[0]


def test_term_ends_it_after_the_work_in_hand(server, workers):
    Cast().request()
    server.hold.clear()
    worker = workers.start()
    until(server.made.is_set, workers)
    worker.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.5)
    server.hold.set()
    assert worker.wait(15) == 0
    assert Deployment.objects.get().codedeploy_id == "d-000000001"
    assert "Traceback" not in workers.log.read_text()


def test_once_does_what_can_be_done_and_ends(server, workers):
    promotion = Cast().request()
    assert workers.start("--once").wait(30) == 0
    promotion.refresh_from_db()
    assert promotion.status == Promotion.Status.SUCCEEDED


def test_without_postgresql_once_fails_and_the_loop_waits_with_a_clear_line(server, workers):
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    assert workers.start("--once", DATABASE_URL=nowhere).wait(30) == 1
    assert "PostgreSQL does not answer" in workers.log.read_text()
    worker = workers.start(DATABASE_URL=nowhere)
    until(lambda: "database away" in workers.log.read_text(), workers)
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0
    assert "Traceback" not in workers.log.read_text()


def test_a_lost_connection_is_replaced_and_the_work_goes_on(server, workers):
    worker = workers.start()
    until(lambda: "reconciling" in workers.log.read_text(), workers)

    def others():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return cursor.fetchone()[0]

    # As a restart of PostgreSQL does; once it has connected.
    until(others, workers)
    promotion = Cast().request()
    until(succeeded(promotion), workers)
    assert worker.poll() is None
    assert "Traceback" not in workers.log.read_text()
