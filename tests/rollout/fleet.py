"""Hosts of one deployment: real processes of `manage.py migrate_once` on one real database."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import psycopg2.extras

from apps.rollout.locks import MIGRATE

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
from backend.settings import *

INSTALLED_APPS = ["django.contrib.staticfiles", "apps.rollout", "tide"]
MIDDLEWARE = []
TEMPLATES = []
ROOT_URLCONF = "apps.rollout.urls"
"""
SIZE = 8


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Ask every now and then until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return answer


class Host:
    """One process; what it printed and reported is kept in files."""

    def __init__(self, name: str, folder: Path, arguments: list[str], environ: dict[str, str]) -> None:
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{name}.log"
        self.file = folder / f"{name}.json"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments, "--report", str(self.file)],
                cwd=ROOT,
                env={**environ, "HOST_NAME": name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __repr__(self) -> str:
        return f"{self.name} (exit {self.process.poll()}): {self.printed}"

    @property
    def printed(self) -> str:
        return self.log.read_text()

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def says(self, text: str) -> bool:
        """Whether it has printed this; fails when it ended without."""
        ended = self.process.poll() is not None
        if text in self.printed:
            return True
        assert not ended, self
        return False

    def wait(self) -> int:
        return self.process.wait(120)


class Fleet:
    """Hosts on one database."""

    def __init__(
        self, folder: Path, *, host: str, port: object, user: str, password: str, database: str
    ) -> None:
        self.folder = folder
        self.server = {"host": host, "port": port, "user": user, "password": password, "dbname": database}
        self.hosts: list[Host] = []
        (folder / "source").mkdir(exist_ok=True)
        (folder / "source/fleet_settings.py").write_text(SETTINGS)
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(folder / "source"),
            "PYTHONDONTWRITEBYTECODE": "1",  # migrations are rewritten within a second
            "DJANGO_SETTINGS_MODULE": "fleet_settings",
            "DATABASE_URL": f"postgresql://{user}:{quote(password)}@{quote(host, safe='')}:{port}/{database}",
        }

    def start(
        self, count: int = 1, *, deployment: str = "d-1", command: str = "migrate_once", **environ: str
    ) -> list[Host]:
        """Start hosts that go ahead at once."""
        there = len(self.hosts)
        arguments = [command, "--timeout", "120"]
        new = [
            Host(
                f"host-{there + number}",
                self.folder / "hosts",
                arguments,
                {**self.environ, "DEPLOYMENT_ID": deployment, **environ},
            )
            for number in range(count)
        ]
        self.hosts += new
        return new

    def start_together(self, count: int = SIZE, *, deployment: str = "d-1", **environ: str) -> list[Host]:
        """Start hosts and let them go when all of them wait, as if something else had migrated."""
        with self.connection() as holder:
            self.ask("SELECT pg_advisory_lock(%s)", MIGRATE, over=holder)
            hosts = self.start(count, deployment=deployment, **environ)
            wait_until(lambda: all(host.says("waiting for another host's migrations") for host in hosts))
        return hosts

    def run(self, deployment: str = "", **options: str) -> Host:
        """Start one host and wait for its end."""
        (host,) = self.start(deployment=deployment, **options)
        host.wait()
        return host

    @contextmanager
    def connection(self, name: str = "") -> Iterator[Any]:
        """A session of somebody else's, each statement committed by itself."""
        with closing(psycopg2.connect(**self.server, application_name=name)) as connection:
            connection.autocommit = True
            yield connection

    def ask(self, sql: str, *params: object, over: Any = None) -> list[dict[str, Any]]:
        if over is None:
            with self.connection() as connection:
                return self.ask(sql, *params, over=connection)
        with over.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(sql, params or None)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def runs(self) -> list[dict[str, Any]]:
        if not self.ask("SELECT to_regclass('rollout_migrationrun') AS it")[0]["it"]:
            return []
        return self.ask("SELECT * FROM rollout_migrationrun ORDER BY id")

    def results(self) -> list[tuple[str, str]]:
        return [(run["deployment_id"], run["result"]) for run in self.runs()]

    def times_applied(self, name: str) -> int:
        (row,) = self.ask("SELECT count(*) FROM django_migrations WHERE name = %s", name)
        return int(row["count"])

    def indexes(self) -> dict[str, bool]:
        """Each index of the app's table, and whether it is valid."""
        rows = self.ask(
            "SELECT indexrelid::regclass::text AS name, indisvalid FROM pg_index"
            " WHERE indrelid = 'tide_mark'::regclass"
        )
        return {row["name"]: row["indisvalid"] for row in rows}

    def host_at_work(self) -> Host:
        """The host whose run is recorded as running; waits for it."""
        (run,) = wait_until(lambda: [run for run in self.runs() if run["result"] == "running"])
        return next(host for host in self.hosts if host.name == run["host"])

    def waits_in(self, text: str) -> bool:
        """Whether a session is at a statement with this text."""
        rows = self.ask(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
            " AND pid <> pg_backend_pid() AND strpos(query, %s) > 0",
            text,
        )
        return bool(rows)

    def end(self) -> None:
        for host in self.hosts:
            if host.process.poll() is None:
                host.process.kill()
                host.process.wait()
