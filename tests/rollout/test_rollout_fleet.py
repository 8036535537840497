"""Eight hosts deploy at the same moment: one migrates, and the others share what came of it."""

import threading

import psycopg2
import pytest

from tests.rollout.fleet import wait_until

pytestmark = pytest.mark.integration

BOTH = ["tide.0001_initial", "tide.0002_next"]
INDEX = "CREATE INDEX CONCURRENTLY tide_id ON tide_mark (id)"


def only_one_applied(fleet, hosts, plan):
    """All ended well, one run applied the plan, and the others know whose."""
    assert [host.wait() for host in hosts] == [0] * len(hosts), hosts
    (run,) = [run for run in fleet.runs() if (run["deployment_id"], run["result"]) == ("d-1", "applied")]
    assert [name for name in run["plan"] if not name.startswith("rollout.")] == plan
    assert run["applied"] == run["plan"]
    assert 0 < run["seconds"] < 120
    for name in plan:
        assert fleet.times_applied(name.removeprefix("tide.")) == 1
    for host in hosts:
        report = host.report
        assert (report["host"], report["error"]) == (run["host"], "")
        if host.name == run["host"]:
            assert (report["result"], report["applied"]) == ("applied", run["plan"])
        else:
            assert f"another host ({run['host']}) has applied the migrations" in host.printed
            assert (report["result"], report["applied"]) == ("by-another", [])
    return run


def all_failed_with_one(fleet, hosts, text):
    """One run failed, with this text, and the others failed by it without a try of their own."""
    assert [host.wait() for host in hosts] == [1] * len(hosts), hosts
    (run,) = [run for run in fleet.runs() if run["result"] == "failed"]
    assert text in run["error"]
    for host in hosts:
        assert "Traceback" not in host.printed
        last = host.printed.splitlines()[-1]
        assert last.startswith("CommandError: ")
        assert text in last
        assert (host.report["result"], host.report["host"]) == ("failed", run["host"])
        assert text in host.report["error"]
        if host.name != run["host"]:
            assert f"{run['host']} failed to apply this deployment's migrations" in last
            assert host.report["applied"] == []
    return run


def test_of_eight_hosts_one_applies_an_ordinary_migration(fleet, folder):
    folder.add("0002_next", "ALTER TABLE tide_mark ADD height integer")
    run = only_one_applied(fleet, fleet.start_together(), BOTH)
    assert run["plan"][0] == "rollout.0001_migrationrun"
    late = fleet.run("d-1")
    assert f"another host ({run['host']}) has applied the migrations" in late.printed
    assert late.report["result"] == "by-another"
    next_time = fleet.run("d-2")
    assert "no migrations to apply" in next_time.printed
    assert next_time.report["result"] == "nothing"
    assert fleet.results() == [("d-1", "applied")]


def test_a_host_of_another_deployment_waits_too(fleet, folder):
    fleet.ask("CREATE TABLE gate AS SELECT 1")
    wait = "WHILE EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.05); END LOOP"
    folder.add("0002_next", f"DO 'BEGIN {wait}; END'")
    (first,) = fleet.start(deployment="d-1")
    wait_until(lambda: fleet.waits_in(wait))
    (second,) = fleet.start(deployment="d-2")
    wait_until(lambda: second.says("waiting for another host's migrations"))
    fleet.ask("DELETE FROM gate")
    only_one_applied(fleet, [first, second], BOTH)
    assert fleet.results() == [("d-1", "applied")]


def test_an_index_is_built_while_others_wait_and_write(fleet, folder):
    fleet.run()
    folder.add("0002_next", INDEX, atomic=False)
    stop = threading.Event()
    written = []

    def write():
        with fleet.connection("writer") as connection:
            while not stop.is_set():
                connection.autocommit = False
                fleet.ask("INSERT INTO tide_mark DEFAULT VALUES", over=connection)
                written.append(stop.wait(0.01))
                connection.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        only_one_applied(fleet, fleet.start_together(), BOTH[1:])
    finally:
        stop.set()
        writer.join()
    assert fleet.indexes() == {"tide_mark_pkey": True, "tide_id": True}
    assert fleet.ask("SELECT count(*) FROM tide_mark") == [{"count": len(written)}]


def test_a_failing_migration_fails_all_hosts_and_is_not_tried_again(fleet, folder):
    folder.add("0002_next", "ALTER TABLE tide_mark ADD height integer")
    folder.add("0003_wrong", "INSERT INTO tide_mark (id) VALUES (1)", "SELECT height / 0", after="0002_next")
    run = all_failed_with_one(
        fleet, fleet.start_together(), "tide.0003_wrong failed: ProgrammingError: column"
    )
    # What went before is applied, nothing of the one that failed is, and the record outlived its rollback.
    assert run["applied"] == run["plan"][:-1]
    assert (fleet.times_applied("0002_next"), fleet.times_applied("0003_wrong")) == (1, 0)
    assert fleet.ask("SELECT * FROM tide_mark") == []
    late = fleet.run("d-1")
    assert late.process.returncode == 1
    assert "they are not tried again in it" in late.printed
    assert fleet.results() == [("d-1", "failed")]
    folder.add("0003_wrong", "SELECT height / 1 FROM tide_mark", after="0002_next")
    mended = fleet.run("d-2")
    assert mended.report["applied"] == ["tide.0003_wrong"]
    assert fleet.results() == [("d-1", "failed"), ("d-2", "applied")]


def test_when_the_host_at_work_is_killed_another_takes_over(fleet, folder):
    fleet.run()
    fleet.ask("CREATE TABLE gate AS SELECT 1")
    folder.add("0002_next", "ALTER TABLE tide_mark ADD height integer", "SELECT pg_sleep(300) FROM gate")
    hosts = fleet.start_together()
    killed = kill_at(fleet, "pg_sleep(300)", before=lambda: fleet.ask("DELETE FROM gate"))
    hosts.remove(killed)
    only_one_applied(fleet, hosts, BOTH[1:])
    assert fleet.results()[1:] == [("d-1", "abandoned"), ("d-1", "applied")]
    dead = fleet.runs()[1]
    assert (dead["host"], dead["applied"]) == (killed.name, [])
    assert f"It ended on {killed.name} without a result" in dead["error"]


def kill_at(fleet, statement, before=lambda: None):
    """Kill the host at work when PostgreSQL is at this statement of its; returns it."""
    host = fleet.host_at_work()
    wait_until(lambda: fleet.waits_in(statement))
    before()
    host.process.kill()
    host.process.wait()
    return host


def test_when_the_host_at_work_is_killed_building_an_index_another_builds_it(fleet, folder):
    fleet.run()
    folder.add("0002_next", INDEX, atomic=False)
    with fleet.connection("writer") as writer:
        writer.autocommit = False
        # What has been written and not committed keeps the build waiting.
        fleet.ask("INSERT INTO tide_mark DEFAULT VALUES", over=writer)
        hosts = fleet.start_together()
        killed = kill_at(
            fleet, INDEX, before=lambda: wait_until(lambda: fleet.indexes().get("tide_id") is False)
        )
        hosts.remove(killed)
        # Its successor is at the same place, and waits for the same.
        wait_until(lambda: fleet.host_at_work() is not killed)
        writer.commit()
    only_one_applied(fleet, hosts, BOTH[1:])
    assert fleet.indexes() == {"tide_mark_pkey": True, "tide_id": True}
    assert fleet.results()[1:] == [("d-1", "abandoned"), ("d-1", "applied")]


def test_an_invalid_index_left_from_before_is_made_again(fleet, folder):
    fleet.run()
    fleet.ask("ALTER TABLE tide_mark ADD height integer")
    fleet.ask("INSERT INTO tide_mark (height) VALUES (1), (1)")
    with fleet.connection() as connection:
        for name in ("tide_height", "someones"):
            with pytest.raises(psycopg2.errors.UniqueViolation):
                fleet.ask(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON tide_mark (height)", over=connection)
    assert fleet.indexes() == {"tide_mark_pkey": True, "tide_height": False, "someones": False}
    folder.add("0002_next", "CREATE INDEX CONCURRENTLY tide_height ON tide_mark (height)", atomic=False)
    run = only_one_applied(fleet, fleet.start_together(), BOTH[1:])
    assert fleet.indexes() == {"tide_mark_pkey": True, "tide_height": True, "someones": False}
    (host,) = [host for host in fleet.hosts if host.name == run["host"]]
    assert "public.tide_height is INVALID, its build was broken off: it is dropped" in host.printed
    assert "warning: public.someones on tide_mark is INVALID" in host.printed
    assert "DROP INDEX CONCURRENTLY public.someones;" in host.printed


def test_a_lock_that_is_held_for_a_while_is_asked_for_again(fleet, folder):
    fleet.run()
    folder.add("0002_next", "ALTER TABLE tide_mark ADD height integer")
    with fleet.connection("nightly report") as reader:
        reader.autocommit = False
        fleet.ask("SELECT * FROM tide_mark", over=reader)
        hosts = fleet.start_together(MIGRATION_LOCK_TIMEOUT_S="1")
        at_work = fleet.host_at_work()
        wait_until(lambda: at_work.says("tide.0002_next: no lock, try 1 of 10 ("))
        wait_until(lambda: at_work.says("(nightly report, idle in transaction, for"))
        reader.commit()
    only_one_applied(fleet, hosts, BOTH[1:])


def test_a_lock_that_is_never_granted_fails_all_hosts_and_names_who_holds_it(fleet, folder):
    fleet.run()
    folder.add("0002_next", "ALTER TABLE tide_mark ADD height integer")
    with fleet.connection("nightly report") as reader:
        reader.autocommit = False
        fleet.ask("SELECT *, 'tides' FROM tide_mark", over=reader)
        hosts = fleet.start_together(MIGRATION_LOCK_TIMEOUT_S="1", MIGRATION_LOCK_TRIES="3")
        run = all_failed_with_one(fleet, hosts, "tide.0002_next got no lock in 3 tries")
        pid = reader.info.backend_pid
    assert "canceling statement due to lock timeout" in run["error"]
    assert f"held by pid {pid} (nightly report, idle in transaction, for" in run["error"]
    assert f"SELECT pg_terminate_backend({pid}), then deploy again" in run["error"]
    assert run["error"].endswith("Its query: SELECT *, 'tides' FROM tide_mark")
    assert run["cause"] == "lock-not-granted"
    assert {host.report["cause"] for host in hosts} == {"lock-not-granted"}
    assert fleet.times_applied("0002_next") == 0
