"""How a service's tests went from build to build: how many, how many passed, how long, how much they ran."""

from typing import Any

from django.db.models import Count, Q, QuerySet, Sum

from apps.builds.coverage import COVERAGE, share
from apps.builds.models import COMPLETE, Build, Report
from apps.compiled import Among, compiled

SHOWN = 30  # builds
SHOWN_LIMIT = 200
COLUMNS = ("id", "service__slug", "codebuild_id", "commit", "source_version", "status", "finished_at")
COUNTERS = ("passed", "failed", "errors", "skipped", "unknown")


def read_builds() -> QuerySet[Build]:
    """The builds that have a place in a trend: those of which the reports have been read."""
    return Build.objects.filter(collected_at__isnull=False)


def of_branch(builds: QuerySet[Build], branch: str) -> QuerySet[Build]:
    """The builds of a branch, which is what CodeBuild was told to build; all where none is named."""
    return builds.filter(source_version=branch) if branch else builds


def add_totals(rows: list[dict[str, Any]], *, report: str = "") -> None:
    """Give each row of a build the totals of its reports, or of those named ``report``, by one query."""
    builds = [row["id"] for row in rows]
    found = _of_name(builds=builds, names=[report]) if report else _of_all(builds=builds)
    sums = {row["build"]: row for row in found}
    for row in rows:
        row.update(_totals(sums.get(row["id"], {})))


def trend(builds: QuerySet[Build], *, report: str = "", limit: int = SHOWN) -> list[dict[str, Any]]:
    """The newest ``limit`` builds with their totals, the newest first. Two queries."""
    rows: list[dict[str, Any]] = list(builds.order_by("-id").values(*COLUMNS)[:limit])
    add_totals(rows, report=report)
    return [as_told(row) for row in rows]


def as_told(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the API and ``reports trends --json`` give it."""
    told = {name: value for name, value in row.items() if name != "service__slug"}
    return {"service": row["service__slug"], **told}


@compiled
def _of_all() -> QuerySet[Report, Any]:
    return _sums(Report.objects.filter(Among("build", "builds")))


@compiled
def _of_name() -> QuerySet[Report, Any]:
    return _sums(Report.objects.filter(Among("build", "builds"), Among("name", "names")))


def _sums(reports: QuerySet[Report, Report]) -> QuerySet[Report, Any]:
    coverage = Q(type=COVERAGE)
    lines = Q(coverage, lines_total__isnull=False)
    sums: dict[str, Any] = {
        **{f"all_{name}": Sum(name, filter=~coverage, default=0) for name in (*COUNTERS, "duration_ns")},
        "all_lines_covered": Sum("lines_covered", filter=lines),
        "all_lines_total": Sum("lines_total", filter=lines),
        "incomplete": Count("pk", filter=~COMPLETE),
    }
    return reports.order_by().values("build").annotate(**sums)


def _totals(sums: dict[str, Any]) -> dict[str, Any]:
    counts = {name: sums.get(f"all_{name}", 0) for name in COUNTERS}
    lines, total = sums.get("all_lines_covered"), sums.get("all_lines_total")
    return {
        "tests": sum(counts.values()),
        **counts,
        "pass_rate": share(counts["passed"], counts["passed"] + counts["failed"] + counts["errors"]),
        "duration_ns": sums.get("all_duration_ns", 0),
        "lines_covered": lines,
        "lines_total": total,
        "line_rate": share(lines or 0, total or 0),
        "complete": not sums.get("incomplete"),
    }
