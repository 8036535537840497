"""What the admin's pages show of builds and their tests beside the fields."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from apps.builds import trends
from apps.builds.compare import Kind, Slower, compare_builds, previous_build
from apps.builds.history import RUNS, Run, case_history
from apps.builds.models import Build, Report, TestCase
from apps.builds.report import SLOWEST_SHOWN, slowest_cases
from apps.builds.tell import TITLES

SHOWN = 10  # cases of each kind, until one kind is asked for
PAGE = 100
COLOURS = {
    Kind.NEW_FAILURES: "danger",
    Kind.STILL_FAILING: "warning",
    Kind.FIXED: "success",
    Kind.VANISHED: "warning",
    Kind.NO_LONGER_RUN: "warning",
    Kind.NEW_TESTS: "info",
    Kind.SLOWER: "warning",
}


def comparison(request: HttpRequest, build: Build, visible: QuerySet[Build]) -> dict[str, Any]:
    """A build's tests beside those of the build that the address names, or else of the one before it.

    ``visible`` are the builds that the user may see.
    """
    asked = request.GET.get("against", "").strip()
    if asked:
        found = visible.filter(pk=int(asked)) if asked.isdecimal() and len(asked) < 19 else visible.none()
        against = found.filter(service=build.service_id).first()
        missing = f"There is no other build {asked[:40]} of its service."
    else:
        against = previous_build(build)
        missing = "No earlier build of its service has test reports."
    if against is None or against == build:
        return {"missing": missing}
    compared = compare_builds(before=against, after=build)
    kind = request.GET.get("kind", "")
    number = request.GET.get("page", "")
    page = int(number) if number.isdecimal() and len(number) < 6 else 0
    if kind in Kind.values:
        cases = compared.cases([Kind(kind)], offset=page * PAGE, limit=PAGE)
    else:
        kind, page, cases = "", 0, compared.cases(list(Kind), limit=SHOWN)
    counts = compared.counts()
    return {
        "against": against,
        "than": Slower(),
        "problems": list(compared.problems.values()),
        "kind": kind,
        "previous_page": page - 1 if page else None,
        "next_page": page + 1 if kind and counts[Kind(kind)] > (page + 1) * PAGE else None,
        "kinds": [
            {
                "name": each,
                "title": TITLES[each],
                "colour": COLOURS[each] if counts[each] else "",
                "count": counts[each],
                "cases": shown,
                "more": counts[each] - len(shown) if shown and not kind else 0,
            }
            for each in Kind
            if not kind or each == kind
            for shown in [[case for case in cases if case.kind is each]]
        ],
        "any": any(counts.values()),
    }


def trend(build: Build) -> dict[str, Any]:
    """The builds of a service up to this one, of its branch where it has one, as bars and as rows."""
    builds = trends.read_builds().filter(service=build.service_id, pk__lte=build.pk)
    rows = trends.trend(trends.of_branch(builds, build.source_version), limit=trends.SHOWN)
    if len(rows) < 2 and build.source_version:
        # A source in S3 has a version of its own in each build.
        rows = trends.trend(builds, limit=trends.SHOWN)
    branches = {row["source_version"] for row in rows}
    most = max((row["tests"] for row in rows), default=0) or 1
    bars = []
    for index, row in enumerate(reversed(rows)):
        red = row["failed"] + row["errors"]
        heights = [TALL * number // most for number in (row["tests"], red)]
        if red:
            heights[1] = max(heights[1], 2)  # so that one of thousands is seen
        bars.append({**row, "x": index * BAR, "all": heights[0], "red": heights[1], "top": TALL - heights[0]})
    return {
        "rows": [
            {**row, "red": row["failed"] + row["errors"], "seconds": row["duration_ns"] / 1e9} for row in rows
        ],
        "bars": bars,
        "width": len(bars) * BAR,
        "tall": TALL,
        "branch": branches.pop() if len(branches) == 1 else "",
    }


BAR, TALL = 16, 60  # pixels


def report(report: Report) -> dict[str, Any]:
    """What a report's page shows above its fields."""
    slowest = slowest_cases(report.pk, limit=SLOWEST_SHOWN)
    most = max((ended.duration_ns for _, ended in slowest), default=0)
    return {
        "counts": [
            {"name": name, "count": getattr(report, name), "colour": colour}
            for name, colour in COUNTERS.items()
            if getattr(report, name)
        ],
        "slowest": [
            {"case": name, "ended": ended, "share": 100 * ended.duration_ns // most}
            for name, ended in slowest
        ],
    }


COUNTERS = {
    "failed": "danger",
    "errors": "danger",
    "unknown": "warning",
    "skipped": "info",
    "passed": "success",
}


def case(request: HttpRequest, case: TestCase) -> dict[str, Any]:
    """What a test's page shows above its fields: how it ended, and since when it fails."""
    branch = request.GET.get("branch", "").strip()[:1024]
    history = case_history(case, limit=RUNS, branch=branch)
    marks = {
        "failing since": history.failing_since,
        "last passed": history.last_pass,
        "first failure of these": history.first_failure,
    }
    return {
        "branch": branch,
        "marks": [{"name": name, "run": run} for name, run in marks.items() if run],
        "runs": [{"run": run, "colour": _colour(run), "outcome": _outcome(run)} for run in history.runs],
        "strip": _strip(history.runs),
    }


# Of an SVG: what it fills them with, by outcome.
FILLS = {"success": "#16a34a", "danger": "#dc2626", "info": "#60a5fa", "warning": "#f59e0b", "": "#d4d4d8"}
STEP = 8  # pixels


def _strip(runs: tuple[Run, ...]) -> dict[str, Any]:
    """The runs as bars, the oldest on the left, as high as they took long."""
    most = max((run.ended.duration_ns for run in runs if run.ended), default=0) or 1
    bars = []
    for index, run in enumerate(reversed(runs)):
        height = 4 + (36 * run.ended.duration_ns // most if run.ended else 0)
        bars.append(
            {
                "x": index * STEP,
                "y": 40 - height,
                "height": height,
                "fill": FILLS[_colour(run)],
                "title": f"build {run.build} {run.commit[:12]}: {_outcome(run)}",
            }
        )
    return {"width": len(bars) * STEP, "bars": bars}


def _outcome(run: Run) -> str:
    if run.ended is None:
        return "not there"
    return f"{run.ended.outcome.value.lower()} in {run.ended.seconds:,.2f} s"


def _colour(run: Run) -> str:
    if run.ended is None:
        return ""
    if run.failed:
        return "danger"
    if run.passed:
        return "warning" if run.ended.flaky else "success"
    return "info"
