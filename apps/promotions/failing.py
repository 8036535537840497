"""What gates are told of the tests that failed: the first of them, and which are quarantined."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.db.models import JSONField, OuterRef, QuerySet
from django.db.models.functions import Cast, JSONObject, Left
from django.utils import timezone

from apps.as_json import Listed
from apps.builds.models import Quarantine, Report, TestCase, TestResult
from apps.builds.naming import CaseName
from apps.compiled import Among, compiled
from apps.gates.facts import FailureFact, PersonFact, QuarantineFact, ReportFact
from apps.promotions.comparing import Reports
from apps.promotions.remembered import Remembered

RED = (TestResult.Status.FAILED, TestResult.Status.ERROR)
FAILURES_TOLD = 20  # the counts are the reports'; nobody reads more names than these in a finding
MESSAGE_TOLD = 300  # characters
# By a build's reports in which tests failed: they change no more.
remembered_failures: Remembered[tuple[ReportFact, ...], tuple[FailureFact, ...]] = Remembered(limit=2048)


def failed(report: ReportFact) -> int:
    """How many of its tests did not pass, by its own count."""
    return report.failed + report.errors


@compiled
def _first_of() -> QuerySet[Report, tuple[Any, ...]]:
    first = (
        TestResult.objects.filter(report=OuterRef("pk"), status__in=RED)
        .order_by("id")
        .values(told=JSONObject(case="case", status="status", message=Left("message", MESSAGE_TOLD)))
    )
    rows = Report.objects.filter(Among("pk", "reports")).order_by()
    return rows.values_list("pk", Cast(Listed(first[:FAILURES_TOLD]), JSONField()))


@compiled
def _cases() -> QuerySet[TestCase, Any]:
    return TestCase.objects.filter(Among("pk", "cases")).order_by().values_list(*CaseName._fields)


def first_failures(reports: Reports) -> dict[int, tuple[FailureFact, ...]]:
    """By build, the first few of each. ``reports`` are those of the builds of which tests failed."""
    red = {build: tuple(filter(failed, its)) for build, its in reports.items()}
    told = remembered_failures.look_up(red.values(), _read_failures)
    return {build: told[its] for build, its in red.items()}


def _read_failures(
    builds: Iterable[tuple[ReportFact, ...]],
) -> dict[tuple[ReportFact, ...], tuple[FailureFact, ...]]:
    """The first failures in the reports of each build.

    The tests' names come by a query of their own: joined, PostgreSQL would look up those of all failures.
    """
    told: dict[int, list[dict[str, Any]]] = dict(
        _first_of(reports=[report.id for its in builds for report in its])
    )
    chosen = {
        its: [(report, each) for report in its for each in told.get(report.id, ())][:FAILURES_TOLD]
        for its in builds
    }
    cases = _cases(cases={each["case"] for those in chosen.values() for _, each in those})
    names = {row[0]: str(CaseName(*row)) for row in cases}
    return {
        its: tuple(
            FailureFact(
                report=report.name,
                name=names[each["case"]],
                status=each["status"],
                message=each["message"],
            )
            for report, each in those
            # One whose test lost its row has no name; the report's counters have it still.
            if each["case"] in names
        )
        for its, those in chosen.items()
    }


@compiled
def _of_quarantined() -> QuerySet[Quarantine, Any]:
    # A test may fail in several reports of a build; each is a failure of its own.
    rows = Quarantine.objects.filter(
        Among("case__results__report", "reports"), case__results__status__in=RED, lifted_at=None
    )
    return rows.order_by().values(
        "id",
        "case__class_name",
        "case__name",
        "case__results__report",
        "by",
        "by__username",
        "reason",
        "created_at",
        "until",
    )


def quarantined_failures(reports: Reports) -> dict[int, list[QuarantineFact]]:
    """By build, its failures of tests that are quarantined now: what was quarantined first comes first.

    ``reports`` are those of the builds of which tests failed.
    """
    found: dict[int, list[QuarantineFact]] = defaultdict(list)
    red = {report.id: (build, report) for build, its in reports.items() for report in its if failed(report)}
    now = timezone.now()
    for row in _of_quarantined(reports=red.keys()):
        if row["until"] <= now:
            continue
        build, report = red[row["case__results__report"]]
        fact = QuarantineFact(
            id=row["id"],
            report=report.name,
            name=str(TestCase(class_name=row["case__class_name"], name=row["case__name"])),
            by=PersonFact(id=row["by"], username=row["by__username"]),
            reason=row["reason"],
            at=row["created_at"],
            until=row["until"],
        )
        found[build].append(fact)
    for its in found.values():
        its.sort(key=lambda fact: (fact.id, fact.report))
    return found
