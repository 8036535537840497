"""A test through its service's builds: how it ended in each, and since when it fails.

Read as slices of five bytes at the test's position from the outcomes of its group's reports, so that it
costs the same however many tests a report has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import BinaryField, F, Func, Q, QuerySet, Value

from apps.builds.compare import outcome_json
from apps.builds.models import Report, TestCase, TestResult, is_complete
from apps.builds.outcomes import SIZE, Ended, ended
from apps.builds.parsers.case import Outcome
from apps.catalog.models import Service
from apps.errors import Invalid, NotFound

RUNS = 100  # reports that are looked at unless told otherwise
RUNS_LIMIT = 1000
RED = (Outcome.FAILED, Outcome.ERROR)


@dataclass(frozen=True)
class Run:
    """A report of the test's group."""

    report: int
    build: int
    commit: str
    source_version: str
    finished_at: datetime | None
    complete: bool
    # None where the report does not have the test, or its outcomes are not kept.
    ended: Ended | None
    message: str

    @property
    def failed(self) -> bool:
        return self.ended is not None and self.ended.outcome in RED

    @property
    def passed(self) -> bool:
        return self.ended is not None and self.ended.outcome is Outcome.PASSED

    def to_json(self) -> dict[str, Any]:
        """As the API and ``reports history --json`` give it."""
        return {
            "report": self.report,
            "build": self.build,
            "commit": self.commit,
            "source_version": self.source_version,
            "finished_at": self.finished_at,
            "complete": self.complete,
            "ended": outcome_json(self.ended),
            "message": self.message,
        }


@dataclass(frozen=True)
class History:
    """How a test ended in the reports of its group, the newest first."""

    runs: tuple[Run, ...]

    @property
    def last_pass(self) -> Run | None:
        return next((run for run in self.runs if run.passed), None)

    @property
    def first_failure(self) -> Run | None:
        """The oldest of these in which it failed."""
        return next((run for run in reversed(self.runs) if run.failed), None)

    @property
    def failing_since(self) -> Run | None:
        """The first in which it failed after it last passed; None where it has not failed since."""
        return next((run for run in reversed(list(self._since_last_pass())) if run.failed), None)

    def _since_last_pass(self) -> Iterator[Run]:
        for run in self.runs:
            if run.passed:
                return
            yield run

    def to_json(self) -> dict[str, Any]:
        """As the API and ``reports history --json`` give it."""
        marks = {"first_failure": self.first_failure, "last_pass": self.last_pass}
        marks["failing_since"] = self.failing_since
        return {
            **{name: run.to_json() if run else None for name, run in marks.items()},
            "runs": [run.to_json() for run in self.runs],
        }


def case_history(case: TestCase, *, limit: int = RUNS, branch: str = "") -> History:
    """How a test ended in the newest ``limit`` reports of its group, of one branch if it is named.

    The branch is what CodeBuild was told to build (source_version). Two queries.
    """
    if case.position is None or case.report_group_id is None:
        # It has not been in a report since outcomes are kept.
        return History(())
    at = Func(
        F("outcomes__data"),
        Value(case.position * SIZE + 1),
        Value(SIZE),
        function="substring",
        output_field=BinaryField(),
    )
    reports = Report.objects.filter(group=case.report_group_id).order_by("-id")
    if branch:
        reports = reports.filter(build__source_version=branch)
    rows = list(
        reports.values(
            "id",
            "build",
            "build__commit",
            "build__source_version",
            "build__finished_at",
            "parsed",
            "problem",
            at=at,
        )[:limit]
    )
    results = TestResult.objects.filter(case=case, report__in=[row["id"] for row in rows])
    messages = dict(results.values_list("report", "message"))
    return History(
        tuple(
            Run(
                report=row["id"],
                build=row["build"],
                commit=row["build__commit"],
                source_version=row["build__source_version"],
                finished_at=row["build__finished_at"],
                complete=is_complete({"type": "TEST", **row}),
                ended=ended(bytes(row["at"])) if row["at"] else None,
                message=messages.get(row["id"], ""),
            )
            for row in rows
        )
    )


def search_cases(cases: QuerySet[TestCase], text: str) -> QuerySet[TestCase]:
    """The tests whose class or name has ``text`` in it; in ``Class::name`` each its own part."""
    class_name, colons, name = text.rpartition("::")
    if colons:
        return cases.filter(class_name__icontains=class_name, name__icontains=name)
    return cases.filter(Q(name__icontains=text) | Q(class_name__icontains=text))


def find_case(*, service: Service, name: str, group: str = "") -> TestCase:
    """The one test of a service that ``name`` means: its id, its name, Class::name, or a part of these.

    NotFound where there is none, Invalid where there are several.
    """
    cases = TestCase.objects.filter(service=service).order_by("group", "class_name", "name", "ordinal")
    if group:
        cases = cases.filter(group=group)
    class_name, colons, short = name.rpartition("::")
    exact = Q(name=name) | (Q(class_name=class_name, name=short) if colons else Q())
    number = name.removeprefix("-")
    if number.isdecimal() and len(number) < 20 and int(number) < 2**63:
        exact |= Q(pk=int(name))
    # One more than are told, to say that there are more.
    found = list(cases.filter(exact)[:6]) or list(search_cases(cases, name)[:6])
    if not found:
        raise NotFound(f"{service.slug} has no test {name[:200]!r}{f' in {group}' if group else ''}.")
    if len(found) > 1:
        some = "; ".join(f"{each.group}: {each} (id {each.pk})" for each in found[:5])
        more = " …" if len(found) > 5 else ""
        raise Invalid(f"{name[:200]!r} is more than one test of {service.slug}: {some}{more}. Give an id.")
    return found[0]
