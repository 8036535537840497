"""How a service's tests went from build to build: how many, how many passed, how long, how much they ran."""

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet

from apps.api import below
from apps.builds.coverage import COVERAGE, share
from apps.builds.models import Build, Report, is_complete

SHOWN = 30  # builds
SHOWN_LIMIT = 200
COLUMNS = ("id", "service__slug", "codebuild_id", "commit", "source_version", "status", "finished_at")
COUNTERS = ("passed", "failed", "errors", "skipped", "unknown")
REPORT_COLUMNS = (
    "build",
    "name",
    "type",
    "parsed",
    "problem",
    *COUNTERS,
    "duration_ns",
    "lines_covered",
    "lines_total",
)


def read_builds() -> QuerySet[Build]:
    """The builds that have a place in a trend: those of which the reports have been read."""
    return Build.objects.filter(collected_at__isnull=False)


def of_branch(builds: QuerySet[Build], branch: str) -> QuerySet[Build]:
    """The builds of a branch, which is what CodeBuild was told to build; all where none is named."""
    return builds.filter(source_version=branch) if branch else builds


def add_totals(rows: list[dict[str, Any]], *, report: str = "") -> None:
    """Give each row of a build the totals of its reports, or of those named ``report``, by one query."""
    reports = Report.objects.values(*REPORT_COLUMNS)
    below(rows, "reports", reports.filter(name=report) if report else reports, "build")
    for row in rows:
        row.update(_totals(row.pop("reports")))


def trend(builds: QuerySet[Build], *, report: str = "", limit: int = SHOWN) -> list[dict[str, Any]]:
    """The newest ``limit`` builds with their totals, the newest first. Two queries."""
    rows: list[dict[str, Any]] = list(builds.order_by("-id").values(*COLUMNS)[:limit])
    add_totals(rows, report=report)
    return [as_told(row) for row in rows]


def as_told(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the API and ``reports trends --json`` give it."""
    told = {name: value for name, value in row.items() if name != "service__slug"}
    return {"service": row["service__slug"], **told}


def _totals(reports: Iterable[dict[str, Any]]) -> dict[str, Any]:
    tests = [each for each in reports if each["type"] != COVERAGE]
    covered = [each for each in reports if each["type"] == COVERAGE and each["lines_total"] is not None]
    counts = {name: sum(each[name] for each in tests) for name in COUNTERS}
    lines = sum(each["lines_covered"] for each in covered)
    total = sum(each["lines_total"] for each in covered)
    return {
        "tests": sum(counts.values()),
        **counts,
        "pass_rate": share(counts["passed"], counts["passed"] + counts["failed"] + counts["errors"]),
        "duration_ns": sum(each["duration_ns"] for each in tests),
        "lines_covered": lines if covered else None,
        "lines_total": total if covered else None,
        "line_rate": share(lines, total),
        "complete": all(map(is_complete, reports)),
    }
