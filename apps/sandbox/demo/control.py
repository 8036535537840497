"""The control plane of a demo: its settings, its processes, and its client."""

import json
import os
import secrets
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .services import Service, answers, fetch, free_port, run

START_TIMEOUT = 60.0  # seconds
LOOK_SECONDS = 0.5  # between two looks at what a running client waits for


@dataclass
class Control:
    """A control plane. `environment` is what its processes are started with."""

    root: Path  # of the checkout
    folder: Path
    logs: Path
    url: str
    environment: dict[str, str]
    passwords: dict[str, str] = field(default_factory=dict)

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def manage(self) -> Path:
        """A wrapper of manage.py that sets this control plane's environment."""
        return self.folder / "manage"

    def show_password(self, user: str) -> str:
        """What to print for a user's log-in: the password the first time, and no secret after that."""
        password = self.passwords.pop(user, None)
        return f"password {password}" if password else "password shown above"

    def register(self) -> None:
        """Make the database's tables, the service with its environments and policies, users and a token."""
        answer = run(
            "setting up the control plane",
            [sys.executable, "-m", "apps.sandbox.demo.register"],
            cwd=self.root,
            environment=self.environment,
            log=self.logs / "control-setup.log",
            quiet_output=True,
        )
        made = json.loads(answer)
        self.passwords = made["passwords"]
        self.token_file.touch(0o600)
        self.token_file.write_text(made["token"])
        lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(self.environment.items())]
        program = shlex.join([sys.executable, str(self.root / "manage.py")])
        self.manage.touch(0o700)
        self.manage.write_text("\n".join(["#!/bin/sh", *lines, f'exec {program} "$@"']) + "\n")

    def start(self) -> list[Service]:
        """Start gunicorn and the reconciler; return them once the site is ready."""
        port = self.url.rpartition(":")[2]
        gunicorn = [str(Path(sys.prefix, "bin", "gunicorn")), "--bind", f"127.0.0.1:{port}", "--workers", "2"]
        gunicorn += ["--threads", "4", "--no-control-socket", "--access-logfile", "-", "backend.wsgi"]
        reconcile = [sys.executable, str(self.root / "manage.py"), "reconcile"]
        services = [
            Service(name, command, cwd=self.root, environment=self.environment, log=self.logs / f"{name}.log")
            for name, command in (("control-plane", gunicorn), ("reconcile", reconcile))
        ]
        services[0].wait_until(lambda: answers(f"{self.url}/readyz"), START_TIMEOUT)
        return services

    def get(self, path: str) -> dict[str, Any]:
        """Return what the REST API has at `path`, below /api/v1/."""
        token = self.token_file.read_text()
        return dict(json.loads(fetch(f"{self.url}/api/v1/{path}", token=token)))

    def client(self, name: str, *arguments: str) -> "ClientRun":
        """Start the pipeline's client."""
        return ClientRun(self, name, list(arguments))


class ClientRun:
    """One run of scripts/jenkins/lockkeeper.py."""

    def __init__(self, control: Control, name: str, arguments: list[str]) -> None:
        self.name = name
        self.log = control.logs / f"{name}.log"
        self.last = ""  # what it said last
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "LOCKKEEPER_URL": control.url,
            "LOCKKEEPER_TOKEN_FILE": str(control.token_file),
        }
        client = control.root / "scripts" / "jenkins" / "lockkeeper.py"
        self._process = subprocess.Popen(
            [sys.executable, client, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self._process.stderr is None:
            return
        with self.log.open("a") as log:
            for line in self._process.stderr:
                log.write(line)
                log.flush()
                # Without the time of day that the client puts before each line.
                self.last = line.strip().partition(" ")[2].strip()

    @property
    def failed(self) -> bool:
        """Whether it has ended already, and not with 0."""
        return self._process.poll() not in (None, 0)

    def finish(self, look: Callable[[], None]) -> tuple[int, str]:
        """Wait for its end, calling `look` twice a second; return its exit code and its standard output."""
        while self._process.poll() is None:
            look()
            time.sleep(LOOK_SECONDS)
        self._reader.join(5)
        output = self._process.stdout.read() if self._process.stdout else ""
        return self._process.returncode, output.strip()


def make_control(
    *, root: Path, folder: Path, logs: Path, database_url: str, aws: Mapping[str, str]
) -> Control:
    """Choose an address and secrets for a control plane."""
    url = f"http://127.0.0.1:{free_port()}"
    return Control(
        root=root,
        folder=folder,
        logs=logs,
        url=url,
        environment=plain_environment()
        | dict(aws)
        | {
            "DATABASE_URL": database_url,
            "SECRET_KEY": secrets.token_urlsafe(48),
            "ALLOWED_HOSTS": "127.0.0.1,localhost",
            "CSRF_TRUSTED_ORIGINS": url,
            # Plain HTTP on this machine, and a checkout in which nobody collected static files.
            "SECURE_COOKIES": "false",
            "STATIC_FROM_SOURCE": "true",
        },
    )


def plain_environment() -> dict[str, str]:
    """Return what any process needs, and nothing of the user's that could bend it."""
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    return kept | {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
