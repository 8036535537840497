"""Time, memory and room that a report of 100,000 test cases takes, from its upload to the commit.

Each round is another build of one service: 3 % of its cases did not pass, 5 % of the names are new. Its file
is sent by HTTP to a gunicorn of one worker, which answers once it is committed. In the same round, on the
same file and in the same database:

- the limit: expat without handlers reads the file, and one INSERT ... SELECT writes as many rows, made up in
  the server, with two indexes;
- what a user would pick: junitparser and a bulk_create of a row per case, with two indexes. It is spared the
  upload.

Time is told twice: on the clock, and in seconds of a processor that the programs and PostgreSQL's sessions
used, which stays the same where other programs want the processors too. The ratios are of the latter.

The limit and the pick are spared the way through HTTP. What that takes is measured by the same file under a
name that is refused once the file is there, and there is a ratio without it: from the file to the commit.

S3 is a sink that answers at once, since how fast S3 is is not ours to tell. Room is what the tables and
their indexes grow by; memory is what the worker's resident set grows by at most, in a process that has
received one small report before.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from bench import _django

_django.set_up()

import junitparser
from django.db import connection, models, transaction

from apps.access.services import create_token
from apps.builds.models import Build
from apps.catalog.models import Service
from tests.factories import make_build, make_member, make_service
from tests.hooks.agent import free_port

TABLES = ("report", "reportgroup", "reportoutcomes", "reportfile", "testcase", "caseidentities", "testresult")
BLOCK = 1 << 20
PATIENCE_S = 300
OWN = Path("/proc/self")
TRACE = """Traceback (most recent call last):
  File "/srv/app/tests/orders/test_prices.py", line 217, in test_total
    self.assertEqual(order.total(currency="EUR"), Decimal("1204.50"))
  File "/usr/lib/python3.11/unittest/case.py", line 873, in assertEqual
    assertion_func(first, second, msg=msg)
  File "/usr/lib/python3.11/unittest/case.py", line 866, in _baseAssertEqual
    raise self.failureException(msg)
AssertionError: Decimal('1204.49') != Decimal('1204.50')
"""


class Row(models.Model):
    """What a user would pick: a row per case."""

    report = models.BigIntegerField(db_index=True)
    suite = models.CharField(max_length=255)
    class_name = models.CharField(max_length=255)
    name = models.CharField(max_length=500)
    status = models.CharField(max_length=10)
    duration = models.FloatField()
    message = models.TextField(blank=True)

    class Meta:
        app_label = "bench"

    def __str__(self) -> str:
        return self.name


def write_report(path: Path, *, build: int, cases: int) -> None:
    """A JUnit file as pytest writes them; a build has 95 % of its names in common with all others."""
    chance = random.Random(build)
    with path.open("w") as file:
        file.write(f'<?xml version="1.0"?><testsuites><testsuite name="pytest" tests="{cases}">')
        for number in range(cases):
            new = f"_since_{build}" if number % 20 == 0 else ""
            name = f"test_{number % 40}_prices_are_rounded{new}[{number}]"
            place = f"tests.orders.test_module_{number // 40}.TestOrders"
            begin = f'<testcase classname="{place}" name="{name}" time="{chance.expovariate(100):.3f}"'
            luck = chance.random()
            if luck < 0.015:
                failure = f"<failure message={quoteattr(TRACE[-60:-1])}>{escape(TRACE)}</failure>"
                file.write(f"{begin}>{failure}</testcase>")
            elif luck < 0.03:
                file.write(f'{begin}><skipped message="needs a browser, and there is none" /></testcase>')
            else:
                file.write(f"{begin} />")
        file.write("</testsuite></testsuites>")


class Sink(BaseHTTPRequestHandler):
    """S3 that takes objects and keeps none."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, BLOCK)))
        self.send_response(200)
        self.send_header("ETag", '"0"')
        self.send_header("x-amz-version-id", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def processor_s(*processes: Path) -> float:
    """Seconds of a processor that these processes, and all sessions of PostgreSQL, have used so far.

    By the nanoseconds of each thread: the ticks of /proc/PID/stat are a fifth of what expat takes.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        sessions = [Path("/proc", str(pid)) for (pid,) in cursor.fetchall()]
    threads = [thread for each in (*processes, *sessions) for thread in (each / "task").iterdir()]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


@dataclass
class Spent:
    """Seconds on the clock, and of a processor."""

    clock: float
    processor: float


@contextlib.contextmanager
def spending(*processes: Path) -> Iterator[Spent]:
    """What is spent while it is entered, by the processes given and by PostgreSQL."""
    spent = Spent(0, 0)
    before, began = processor_s(*processes), time.perf_counter()
    yield spent
    spent.clock = time.perf_counter() - began
    spent.processor = processor_s(*processes) - before


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """The address of the sink."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Server:
    """Gunicorn of one worker on the bench's database."""

    def __init__(self, endpoint: str) -> None:
        self.port = free_port()
        environment = os.environ | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "ALLOWED_HOSTS": "127.0.0.1",
            # A session that ends takes its seconds of the processor with it.
            "CONN_MAX_AGE": "3600",
        }
        command = [sys.executable, "-m", "gunicorn", "backend.wsgi", "--bind", f"127.0.0.1:{self.port}"]
        command += ["--timeout", str(PATIENCE_S), "--log-level", "warning", "--no-control-socket"]
        self.process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz").close()
                break
            assert time.monotonic() < deadline, "gunicorn does not come up"
            time.sleep(0.1)

    def worker(self) -> Path:
        """What the system tells of the worker."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return Path("/proc", child)

    def resident_mb(self, line: str) -> float:
        """A line of the worker's status, in MB."""
        for each in (self.worker() / "status").read_text().splitlines():
            if each.startswith(line):
                return int(each.split()[1]) / 1024
        raise LookupError(line)

    def upload(self, build: Build, secret: str, path: Path) -> Spent:
        """What is spent until the report is committed."""
        spent, answer, body = self._post(build, secret, path, name="unit")
        assert answer.status == 201, (answer.status, body)
        assert json.loads(body)["complete"], body
        return spent

    def receive(self, build: Build, secret: str, path: Path) -> Spent:
        """What is spent to receive the file, and to refuse its name."""
        spent, answer, body = self._post(build, secret, path, name="no/name")
        assert answer.status == 400, (answer.status, body)
        return spent

    def _post(
        self, build: Build, secret: str, path: Path, *, name: str
    ) -> tuple[Spent, http.client.HTTPResponse, bytes]:
        boundary = uuid.uuid4().hex
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        with spending(self.worker()) as spent:
            answer, body = self._send(
                f"/api/v1/builds/{build.pk}/reports/", secret, boundary, head, path, tail
            )
        return spent, answer, body

    def _send(
        self, address: str, secret: str, boundary: str, head: bytes, path: Path, tail: bytes
    ) -> tuple[http.client.HTTPResponse, bytes]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        link.putrequest("POST", address)
        link.putheader("Authorization", f"Bearer {secret}")
        link.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
        link.putheader("Content-Length", str(len(head) + path.stat().st_size + len(tail)))
        link.endheaders()
        link.send(head)
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                link.send(block)
        link.send(tail)
        answer = link.getresponse()
        return answer, answer.read()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def limit(path: Path, report: int, cases: int) -> tuple[Spent, Spent]:
    """Expat alone, and one INSERT ... SELECT."""
    with spending(OWN) as parsed:
        parser = expat.ParserCreate()
        with path.open("rb") as file:
            parser.ParseFile(file)
    with spending(OWN) as inserted, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO bench_limit (report, test, status, duration)"
            " SELECT %s, number, 1, 12.5 FROM generate_series(1, %s) AS number",
            [report, cases],
        )
    return parsed, inserted


def pick(path: Path, report: int) -> Spent:
    """junitparser and bulk_create."""
    with spending(OWN) as spent:
        _pick(path, report)
    return spent


def _pick(path: Path, report: int) -> None:
    rows = []
    for suite in junitparser.JUnitXml.fromfile(str(path)):
        for case in suite:
            result = case.result[0] if case.result else None
            rows.append(
                Row(
                    report=report,
                    suite=suite.name,
                    class_name=case.classname,
                    name=case.name,
                    status=type(result).__name__ if result else "Passed",
                    duration=case.time,
                    message=f"{result.message}\n{result.text or ''}" if result else "",
                )
            )
    with transaction.atomic():
        Row.objects.bulk_create(rows, batch_size=5000)


def room() -> int:
    """Bytes of the tables of evidence with their indexes and large values."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s) AS name",
            [[f"builds_{table}" for table in TABLES]],
        )
        return int(cursor.fetchone()[0])


def make_tables() -> None:
    """The tables of the limit and of the pick."""
    with connection.schema_editor() as editor:
        editor.create_model(Row)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bench_limit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
            " report bigint NOT NULL, test bigint NOT NULL, status smallint NOT NULL,"
            " duration double precision NOT NULL, UNIQUE (report, test))"
        )


def measure(folder: Path, endpoint: str, options: argparse.Namespace) -> dict[str, float]:
    make_tables()
    service = make_service("bench")
    user = make_member(service, "developer")
    secret = create_token(user=user, name="bench", scopes=["ci"])[1]
    path, small = folder / "report.xml", folder / "small.xml"
    write_report(small, build=0, cases=100)
    server = Server(endpoint)
    try:
        # The first build brings all names; only what comes after it counts.
        write_report(path, build=1, cases=options.cases)
        server.upload(make_build(service), secret, path)
        before = room()
        ours, received, floors, picked = [], [], [], []
        print("seconds on the clock / of a processor")
        print(f"{'round':>5}{'ours':>15}{'its HTTP':>15}{'expat':>15}{'INSERT':>15}{'pick':>15}")
        for number in range(2, options.rounds + 2):
            write_report(path, build=number, cases=options.cases)
            build = make_build(service)
            received.append(server.receive(build, secret, path))
            ours.append(server.upload(build, secret, path))
            floors.append(limit(path, number, options.cases))
            picked.append(pick(path, number))
            told = (ours[-1], received[-1], *floors[-1], picked[-1])
            cells = "".join(f"{f'{each.clock:.2f} / {each.processor:.2f}':>15}" for each in told)
            print(f"{number - 1:>5}{cells}", flush=True)
        grown = (room() - before) / options.rounds / options.cases
        extra = peak(endpoint, service, secret, path, small, options.cases)
    finally:
        server.stop()
    limits = [parsed.processor + inserted.processor for parsed, inserted in floors]
    on_clock = [parsed.clock + inserted.clock for parsed, inserted in floors]
    figures = {
        "cases": options.cases,
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "seconds": round(statistics.median(each.clock for each in ours), 2),
        "processor_s": round(statistics.median(each.processor for each in ours), 2),
        "ratio_to_limit": median_ratio([each.processor for each in ours], limits),
        "ratio_to_limit_without_http": median_ratio(
            [each.processor - its.processor for each, its in zip(ours, received, strict=True)], limits
        ),
        "ratio_to_limit_on_clock": median_ratio([each.clock for each in ours], on_clock),
        "times_faster_than_pick": median_ratio(
            [each.processor for each in picked], [each.processor for each in ours]
        ),
        "times_faster_than_pick_on_clock": median_ratio(
            [each.clock for each in picked], [each.clock for each in ours]
        ),
        "bytes_per_case": round(grown, 1),
        "peak_extra_mb": round(extra, 1),
    }
    if options.million:
        figures |= million(folder, endpoint, small)
    return figures


def median_ratio(ones: list[float], others: list[float]) -> float:
    return round(statistics.median(one / other for one, other in zip(ones, others, strict=True)), 2)


def peak(endpoint: str, service: Service, secret: str, path: Path, small: Path, cases: int) -> float:
    """By how many MB a fresh worker grows at most while it takes the report of another build."""
    server = Server(endpoint)
    try:
        server.upload(make_build(service), secret, small)
        write_report(path, build=99_999, cases=cases)
        (server.worker() / "clear_refs").write_text("5")
        before = server.resident_mb("VmRSS")
        server.upload(make_build(service), secret, path)
        return server.resident_mb("VmHWM") - before
    finally:
        server.stop()


def million(folder: Path, endpoint: str, small: Path) -> dict[str, float]:
    """A report of a million cases, all of them new, and the same names again."""
    path = folder / "million.xml"
    write_report(path, build=1, cases=1_000_000)
    server = Server(endpoint)
    try:
        other = make_service("million")
        user = make_member(other, "developer")
        secret = create_token(user=user, name="million", scopes=["ci"])[1]
        server.upload(make_build(other), secret, small)
        before = server.resident_mb("VmRSS")
        first = server.upload(make_build(other), secret, path)
        again = server.upload(make_build(other), secret, path)
        return {
            "million_new_s": round(first.clock, 1),
            "million_known_s": round(again.clock, 1),
            "million_known_processor_s": round(again.processor, 1),
            "million_peak_extra_mb": round(server.resident_mb("VmHWM") - before, 1),
        }
    finally:
        server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench ingest", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="of a report; 100,000 unless given")
    parser.add_argument("--rounds", type=int, default=5, help="5 unless given")
    parser.add_argument("--million", action="store_true", help="also a report of a million cases")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as temporary, sink() as endpoint:
        figures = measure(Path(temporary), endpoint, options)
    print(json.dumps({"bench": "ingest", **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
