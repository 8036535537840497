"""Time in the database of what is asked of 1,000 reports of 10,000 test cases, and of ten times as many.

Reports, outcomes and results are made up in the server: 1.5 % of the cases fail or end in an error and 1.5 %
are skipped, and one case in a hundred fails half of the time. Timed are the queries alone, as the product
sends them: on the clock, and what PostgreSQL's session uses of a processor, which stays the same where others
want the processors too.

- the history of one case over the newest 100 reports, of another case each time;
- the failures of a report that are new against another one, the first 50 of them with their names;
- the list of a service's flaky cases, the first 50 of them with their names.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import _django

_django.set_up()

from django.db import connection

from apps.builds.compare import CaseChange, Kind, compare
from apps.builds.flaky import rebuild_states
from apps.builds.flaky_api import CaseStateSerializer
from apps.builds.history import case_history
from apps.builds.models import CaseState, Report, ReportGroup, TestCase
from apps.catalog.models import Service
from tests.factories import make_service

CASES = 10_000
GROWTH = 10
TARGET_MS = 5.0
# How a case of a report ends, out of 1,000; the same in the outcomes and in the results.
LUCK = "abs(hashint8(p.position::bigint * 1000003 + r.id)) %% 1000"
CODE = f"""
    CASE WHEN p.position %% 100 = 7 AND {LUCK} < 500 THEN 2 WHEN {LUCK} < 10 THEN 2 WHEN {LUCK} < 15 THEN 3
    WHEN {LUCK} < 30 THEN 4 ELSE 1 END
"""
MAKE = [
    """
    INSERT INTO builds_build (lease_owner, lease_fence, service_id, codebuild_id, commit, source_version,
        status, deviations, exports, log_url, problem, created_at, started_at, finished_at, collected_at)
    SELECT '', 0, %(service)s, 'bench:' || n, lpad(to_hex(n), 40, '0'), 'main',
        'SUCCEEDED', '[]', '{}', '', '', now(), now(), now(), now()
    FROM generate_series(%(first)s, %(last)s) AS n
    """,
    """
    INSERT INTO builds_report (build_id, group_id, name, arn, type, status, truncated, declared, returned,
        parsed, passed, failed, errors, skipped, unknown, duration_ns, problem, created_at)
    SELECT b.id, %(group)s, 'unit', 'arn:' || b.id, 'TEST', 'FAILED', false, %(cases)s, 500, %(cases)s,
        %(cases)s, 0, 0, 0, 0, 0, '', now()
    FROM builds_build b WHERE NOT EXISTS (SELECT FROM builds_report r WHERE r.build_id = b.id)
    """,
    f"""
    INSERT INTO builds_testresult (report_id, case_id, status, duration_ns, message)
    SELECT r.id, p.id, CASE {CODE} WHEN 2 THEN 'FAILED' WHEN 3 THEN 'ERROR' ELSE 'SKIPPED' END, 1000000,
        repeat('AssertionError: 1 != 2 ', 10)
    FROM builds_report r, builds_testcase p
    WHERE NOT EXISTS (SELECT FROM builds_reportoutcomes o WHERE o.report_id = r.id) AND {CODE} > 1
    """,
    f"""
    INSERT INTO builds_reportoutcomes (report_id, data)
    SELECT r.id, (
        SELECT string_agg(decode(lpad(to_hex({CODE}), 2, '0'), 'hex') || int4send({LUCK}), ''::bytea
            ORDER BY p.position)
        FROM builds_testcase p
    )
    FROM builds_report r
    WHERE NOT EXISTS (SELECT FROM builds_reportoutcomes o WHERE o.report_id = r.id)
    """,
]


class Timer:
    """Adds up the time in the database while it wraps the connection."""

    def __init__(self) -> None:
        self.clock_ms = self.processor_ms = 0.0
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            self.session = Path("/proc", str(cursor.fetchone()[0]), "schedstat")

    def __call__(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        used, began = self._used_ms(), time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            self.clock_ms += (time.perf_counter() - began) * 1000
            self.processor_ms += self._used_ms() - used

    def _used_ms(self) -> float:
        return int(self.session.read_text().split()[0]) / 1e6


def p50_ms(name: str, ask: Callable[[int], object], times: int) -> dict[str, float]:
    """The medians of the milliseconds in the database; ``ask`` gets the number of its turn."""
    clock, processor = [], []
    for number in range(times):
        timer = Timer()
        with connection.execute_wrapper(timer):
            ask(number)
        clock.append(timer.clock_ms)
        processor.append(timer.processor_ms)
    return {
        f"{name}_ms": round(statistics.median(processor), 2),
        f"{name}_clock_ms": round(statistics.median(clock), 2),
    }


def make_cases(service: Service, group: ReportGroup) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO builds_testcase
                (id, service_id, "group", report_group_id, position, suite, class_name, name, ordinal)
            SELECT hashint8extended(n, 0), %s, 'unit', %s, n, 'pytest', 'module_' || n / 40, 'test_' || n, 0
            FROM generate_series(0, %s) AS n
            """,
            [service.pk, group.pk, CASES - 1],
        )


def make_reports(service: Service, group: ReportGroup, first: int, last: int) -> None:
    values = {"service": service.pk, "group": group.pk, "cases": CASES, "first": first, "last": last}
    with connection.cursor() as cursor:
        for statement in MAKE:
            cursor.execute(statement, values)
        cursor.execute("ANALYZE")


def new_failures(before: Report, after: Report) -> list[CaseChange]:
    """The first 50 cases that fail in a report and did not in another one, with their names."""
    return compare(before=before.build_id, after=after.build_id).cases([Kind.NEW_FAILURES], limit=50)


def flaky(service: Service) -> list[Any]:
    """As the API lists them."""
    states = CaseState.objects.filter(service=service).not_healthy().shown_as("flaky")
    return list(CaseStateSerializer.rows(states.order_by("-id"))[:50])


def measure(service: Service, group: ReportGroup, times: int) -> dict[str, float]:
    """The three figures, and that what they time finds something."""
    chance = random.Random(1)
    cases = list(TestCase.objects.filter(position__in=chance.sample(range(CASES), times)))
    newest = list(Report.objects.order_by("-pk")[: times + 1])
    assert len(case_history(cases[0]).runs) == 100
    assert all(run.ended for run in case_history(cases[0]).runs)
    assert new_failures(newest[1], newest[0])
    assert flaky(service)
    return {
        **p50_ms("history", lambda number: case_history(cases[number]), times),
        **p50_ms("new_failures", lambda number: new_failures(newest[number + 1], newest[number]), times),
        **p50_ms("flaky", lambda _: flaky(service), times),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench history", description=__doc__)
    parser.add_argument("--reports", type=int, default=1_000, help="1,000 unless given")
    parser.add_argument("--times", type=int, default=100, help="that each is asked; 100 unless given")
    parser.add_argument("--no-growth", action="store_true", help="spare the ten times as many")
    options = parser.parse_args()
    service = make_service("bench")
    group = ReportGroup.objects.create(service=service, name="unit", size=CASES)
    make_cases(service, group)
    sizes = [options.reports] if options.no_growth else [options.reports, options.reports * GROWTH]
    print("p50 in ms, of a processor / on the clock")
    print(f"{'reports':>9}{'history of a case':>20}{'new failures':>20}{'flaky list':>20}")
    figures, made = [], 0
    for size in sizes:
        make_reports(service, group, made + 1, size)
        made = size
        rebuild_states(group=group)
        found = measure(service, group, options.times)
        figures.append({"reports": size, **found})
        names = ("history", "new_failures", "flaky")
        cells = (f"{found[f'{name}_ms']} / {found[f'{name}_clock_ms']}" for name in names)
        print(f"{size:>9,}{''.join(f'{cell:>20}' for cell in cells)}", flush=True)
    first = {name: value for name, value in figures[0].items() if name != "reports"}
    print(json.dumps({"bench": "history", "cases": CASES, **first, "sizes": figures}))
    return 0 if all(first[f"{name}_ms"] < TARGET_MS for name in names) else 1


if __name__ == "__main__":
    sys.exit(main())
