"""What a report tells beside its counts: what failed, and what took longest."""

from dataclasses import dataclass
from heapq import nlargest
from typing import Any

from apps.builds.models import Report, ReportOutcomes, TestResult
from apps.builds.naming import CaseName, named_cases
from apps.builds.outcomes import Ended, durations, ended
from apps.errors import NotFound

FAILURES_SHOWN = 50
SLOWEST_SHOWN = 20
TOLD = ("id", "name", "type", "status", "arn", "problem")
COUNTED = ("parsed", "passed", "failed", "errors", "skipped", "unknown", "duration_ns")
RED = (TestResult.Status.FAILED, TestResult.Status.ERROR)


@dataclass(frozen=True)
class Failure:
    """A test that failed or ended in an error."""

    case: CaseName
    status: str
    duration_ns: int
    message: str

    def to_json(self) -> dict[str, Any]:
        """As the API gives it."""
        told = {"status": self.status, "duration_ns": self.duration_ns, "message": self.message}
        return self.case.to_json() | told


def failures(report: int, *, limit: int) -> list[Failure]:
    """The first tests of a report that failed or ended in an error. One query."""
    results = TestResult.objects.filter(report=report, status__in=RED).order_by("id")
    names = (f"case__{name}" for name in CaseName._fields)
    rows = results.values_list("status", "duration_ns", "message", *names)[:limit]
    return [Failure(CaseName(*row[3:]), *row[:3]) for row in rows]


def slowest_cases(report: int, *, limit: int) -> list[tuple[CaseName, Ended]]:
    """The tests of a report that took longest, with how they ended; none where outcomes are not kept.

    Two queries, and some ten milliseconds for 100,000 tests.
    """
    found = ReportOutcomes.objects.filter(report=report).values_list("report__group", "data").first()
    if found is None:
        return []
    group, data = found[0], bytes(found[1])
    units = durations(data)
    places = [place for place in nlargest(limit, range(len(units)), key=units.__getitem__) if units[place]]
    named = named_cases((group, place) for place in places)
    told = ((named.get((group, place)), ended(data, place)) for place in places)
    return [(name, each) for name, each in told if name and each]


def whole_report(pk: int) -> dict[str, Any]:
    """A report as ``reports show --json`` gives it; NotFound where there is none."""
    found = Report.objects.select_related("build").filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise NotFound(f"There is no report {pk}.")
    slowest = slowest_cases(pk, limit=SLOWEST_SHOWN)
    return {
        **{
            name: getattr(found, name)
            for name in ("id", "name", "type", "status", "arn", "problem", *COUNTED)
        },
        "complete": found.complete,
        "build": found.build_id,
        "codebuild_id": found.build.codebuild_id,
        "commit": found.build.commit,
        "files": list(found.files.values("bucket", "key", "version", "size", "sha256")),
        "failures": [each.to_json() for each in failures(pk, limit=FAILURES_SHOWN)],
        "slowest": [
            name.to_json() | {"outcome": each.outcome.value, "duration_ns": each.duration_ns}
            for name, each in slowest
        ],
    }
