"""PostgreSQL goes away during each step: a sentence says what to do, and the same command finishes later."""

import random
import signal
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from apps.rollout.locks import MIGRATE
from apps.sandbox.postgres import Cluster
from tests.rollout.fleet import Fleet, wait_until

pytestmark = pytest.mark.integration

SERVER = {
    "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "ALLOWED_HOSTS": "lockkeeper.example.com",
}


def a_port():
    """A free one below those that the kernel gives to outgoing connections, which could take it meanwhile."""
    while True:
        port = random.randrange(20000, 32000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="module")
def cluster():
    with Cluster(port=a_port()) as cluster:
        yield cluster


@pytest.fixture
def fleet(folder, cluster, tmp_path):
    """Hosts with an empty database on a server that can be stopped."""
    database = f"rollout_{tmp_path.name}"
    url = urlsplit(cluster.server.create_database(database))
    fleet = Fleet(
        tmp_path,
        host=url.hostname,
        port=url.port,
        user=url.username,
        password=url.password,
        database=database,
    )
    fleet.environ |= SERVER | {
        "STATIC_ROOT": str(tmp_path / "static"),
        "STATIC_MANIFEST_DIR": str(tmp_path / "manifest"),
    }
    yield fleet
    fleet.end()


def gave_up(host, text):
    """It ended with one sentence, and reports it."""
    assert host.wait() == 1, host
    assert "Traceback" not in host.printed
    last = host.printed.splitlines()[-1]
    assert last.startswith("CommandError: ")
    assert text in last
    assert "run this again" in last
    report = host.report
    assert (report["result"], report["cause"]) == ("failed", None)
    assert f"CommandError: {report['error']}" == last
    return report


def open_gate(fleet):
    """The next run will not be held up."""
    fleet.ask("DELETE FROM gate")
    # This server trades durability for speed.
    fleet.ask("CHECKPOINT")


def test_it_is_away_from_the_beginning(fleet, folder, cluster):
    cluster.halt()
    try:
        gave_up(fleet.run("d-1"), "PostgreSQL does not answer (connection to server at")
        gave_up(fleet.run("d-1", command="prepare"), "PostgreSQL does not answer (connection to server at")
    finally:
        cluster.resume()
    again = fleet.run("d-1", command="prepare")
    assert again.process.returncode == 0, again
    assert again.report["applied"] == ["rollout.0001_migrationrun", "tide.0001_initial"]
    assert fleet.results() == [("d-1", "applied")]


def test_it_goes_while_a_host_waits_for_another(fleet, folder, cluster):
    with fleet.connection() as holder:
        fleet.ask("SELECT pg_advisory_lock(%s)", MIGRATE, over=holder)
        (host,) = fleet.start()
        wait_until(lambda: host.says("waiting for another host's migrations"))
        cluster.halt()
    try:
        gave_up(host, "PostgreSQL does not answer (")
    finally:
        cluster.resume()
    assert fleet.run("d-1").report["result"] == "applied"
    assert fleet.results() == [("d-1", "applied")]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_it_goes_in_the_middle_of_a_migration(fleet, folder, cluster, how):
    folder.add("0002_next", "CREATE TABLE gate AS SELECT 1", atomic=False)
    folder.add(
        "0003_last",
        *("ALTER TABLE tide_mark ADD height integer", "SELECT pg_sleep(300) FROM gate"),
        after="0002_next",
    )
    (host,) = fleet.start()
    wait_until(lambda: fleet.waits_in("pg_sleep(300)"))
    open_gate(fleet)
    cluster.halt(how)
    try:
        report = gave_up(host, "PostgreSQL was lost in the middle of tide.0003_last (")
    finally:
        cluster.resume()
    assert "Nothing of it remains; what was applied before it stays." in report["error"]
    assert report["applied"] == report["plan"][:-1]
    again = fleet.run("d-1")
    assert (again.process.returncode, again.report["applied"]) == (0, ["tide.0003_last"])
    assert fleet.results() == [("d-1", "abandoned"), ("d-1", "applied")]
    assert fleet.runs()[0]["applied"] == report["applied"]


def test_it_goes_while_an_index_is_built(fleet, folder, cluster):
    fleet.run()
    statement = "CREATE INDEX CONCURRENTLY tide_id ON tide_mark (id)"
    folder.add("0002_next", statement, atomic=False)
    with fleet.connection() as writer:
        writer.autocommit = False
        # What has been written and not committed keeps the build waiting.
        fleet.ask("INSERT INTO tide_mark DEFAULT VALUES", over=writer)
        (host,) = fleet.start()
        wait_until(lambda: fleet.indexes().get("tide_id") is False and fleet.waits_in(statement))
        cluster.halt()
    try:
        report = gave_up(host, "PostgreSQL was lost in the middle of tide.0002_next (")
    finally:
        cluster.resume()
    assert "It is not atomic: what it had done stays." in report["error"]
    assert fleet.indexes() == {"tide_mark_pkey": True, "tide_id": False}
    assert fleet.run("d-1").report["applied"] == ["tide.0002_next"]
    assert fleet.indexes() == {"tide_mark_pkey": True, "tide_id": True}


def test_it_goes_while_the_outcome_is_recorded(fleet, folder, cluster):
    fleet.run()
    folder.add("0002_next", "ALTER TABLE tide_mark ADD height integer")
    fleet.ask(
        """
        CREATE TABLE gate AS SELECT 1;
        CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_sleep(300) FROM gate; RETURN NEW; END';
        CREATE TRIGGER linger BEFORE UPDATE ON rollout_migrationrun
            FOR EACH ROW WHEN (NEW.result = 'applied') EXECUTE FUNCTION linger();
        """
    )
    (host,) = fleet.start()
    wait_until(lambda: fleet.waits_in('UPDATE "rollout_migrationrun" SET "result" = '))
    open_gate(fleet)
    cluster.halt()
    try:
        report = gave_up(host, "All migrations are applied, but PostgreSQL was lost before that was recorded")
    finally:
        cluster.resume()
    assert report["applied"] == report["plan"] == ["tide.0002_next"]
    again = fleet.run("d-1")
    assert (again.process.returncode, again.report["result"]) == (0, "nothing")
    assert fleet.results() == [("", "applied"), ("d-1", "abandoned")]
    assert fleet.times_applied("0002_next") == 1
