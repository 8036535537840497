"""scripts/jenkins/lockkeeper.py against Lockkeeper itself, which is restarted and cut off meanwhile."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from junitparser import JUnitXml

from apps.promotions.models import Promotion
from apps.promotions.services import approve_promotion, start_promotion
from tests.factories import make_deployment, make_occupancy, make_token
from tests.jenkins.conftest import CLIENT, ROOT
from tests.promotions.cast import Cast

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]
PATIENCE = 60  # seconds until a test gives up; nothing is measured


class Lockkeeper:
    """The server as a process of its own, at one port for all of its lives."""

    def __init__(self, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.log, self.process = log, None

    def start(self) -> None:
        settings = connection.settings_dict
        place = {
            "PGHOST": settings["HOST"],
            "PGPORT": str(settings["PORT"] or 5432),
            "PGUSER": settings["USER"],
            "PGPASSWORD": settings["PASSWORD"],
        }
        environment = {
            **os.environ,
            **{name: value for name, value in place.items() if value},
            "DATABASE_URL": f"postgresql:///{settings['NAME']}",
            "SECRET_KEY": "for-tests-only-0123456789-0123456789-0123456789-0123",
            "ALLOWED_HOSTS": "127.0.0.1",
            "CONN_MAX_AGE": "0",
        }
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}", "backend.wsgi"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=self.log.open("ab"), stderr=subprocess.STDOUT
        )
        wait_until(self.answers, self.log)

    def answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as response,
        ):
            return bool(response.status == 200)
        return False

    def kill(self) -> None:
        if self.process is not None:
            # With its workers, as a host that goes down.
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
            self.process = None


class Network:
    """A way to the server that can be cut: connections that are open break, and new ones are refused."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.whole, self.refused = True, 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if not self.whole:
                self.refused += 1
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()  # nobody is there
                continue
            self.open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(source, sink), daemon=True).start()

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self.whole = False
        for end in self.open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.listener.close()
        for end in self.open:
            end.close()


class Client:
    """The client as a pipeline starts it; what it says is read while it runs."""

    def __init__(self, url: str, token: str, *arguments: str) -> None:
        environment = {"PATH": "/usr/bin:/bin", "LOCKKEEPER_URL": url, "LOCKKEEPER_TOKEN": token}
        self.process = subprocess.Popen(
            [sys.executable, CLIENT, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip())

    def hear(self, words: str) -> None:
        wait_until(lambda: any(words in line for line in self.said), self.said)

    def end(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return code, self.process.stdout.read()


def wait_until(condition: Any, evidence: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, evidence.read_text() if isinstance(evidence, Path) else evidence
        time.sleep(0.05)


@pytest.fixture
def lockkeeper(transactional_db: None, tmp_path: Path) -> Iterator[Lockkeeper]:
    server = Lockkeeper(tmp_path / "gunicorn.log")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def network(lockkeeper: Lockkeeper) -> Iterator[Network]:
    network = Network(lockkeeper.port)
    yield network
    network.close()


@pytest.fixture
def cast(transactional_db: None) -> Cast:
    cast = Cast()
    cast.policy(cast.staging, "max_failures", "approved")
    return cast


def arrive(promotion: Promotion) -> None:
    """What a reconciler and CodeDeploy do, without either."""
    assert start_promotion(promotion=promotion)
    make_occupancy(make_deployment(promotion.environment, promotion.release))
    Promotion.objects.filter(pk=promotion.pk).update(status=Promotion.Status.SUCCEEDED)


def test_it_waits_through_a_restart_and_a_cut_network_until_the_release_has_arrived(
    cast: Cast, lockkeeper: Lockkeeper, network: Network, tmp_path: Path
) -> None:
    _, token = make_token(cast.ann, "read", "ci")
    release = cast.release()
    client = Client(
        f"http://127.0.0.1:{network.port}",
        token,
        *("promote", "--release", str(release.pk), "--environment", "staging", "--wait"),
        *("--through", "human", "--reports", str(tmp_path / "findings")),
    )
    client.hear("waiting_human    approved: It needs 1 more approval")
    lockkeeper.kill()
    client.hear("trying again in")
    lockkeeper.start()
    promotion = Promotion.objects.get()
    approve_promotion(promotion=promotion, user=cast.ben)
    client.hear("approved: Approved by ben; ann asked for it.")
    network.cut()
    wait_until(lambda: network.refused, client.said)
    arrive(promotion)
    network.whole = True
    code, out = client.end()
    assert (code, out) == (0, f"{promotion.pk}\n"), client.said
    assert client.said[-1].endswith("staging: succeeded, the gate says pass")
    # Said when it changed, and once.
    assert sum("Approved by ben" in line for line in client.said) == 1
    assert Promotion.objects.count() == 1
    assert (tmp_path / "findings" / "promotion-staging.title").read_text() == "succeeded\n"


def test_a_gate_that_is_shut_ends_with_the_whole_answer(
    cast: Cast, lockkeeper: Lockkeeper, tmp_path: Path
) -> None:
    cast.policy(cast.production, "verified_upstream", "approved", "max_failures")
    _, token = make_token(cast.ann, "read", "ci")
    arguments = ("promote", "--release", str(cast.release().pk), "--environment", "production", "--wait")
    site = f"http://127.0.0.1:{lockkeeper.port}"
    client = Client(site, token, *arguments, "--reports", str(tmp_path))
    code, out = client.end()
    assert code == 10, client.said
    assert client.said[-2].endswith("2 of 3 conditions are not met. Waiting alone does not mend it.")
    assert client.said[-1].endswith(f"{site}/admin/promotions/promotion/{out.strip()}/change/")
    title = (tmp_path / "promotion-production.title").read_text()
    assert title.startswith("blocked: verified_upstream: ")
    (suite,) = JUnitXml.fromfile(str(tmp_path / "promotion-production.xml"))
    assert (suite.tests, [type(case.result[0]).__name__ for case in suite if case.result]) == (
        3,
        ["Failure", "Skipped"],
    )
