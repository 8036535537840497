"""Reports as they are written, for tests of what is told of them."""

from itertools import count

from django.db import transaction

from apps.builds.evidence import ReportEvidence
from apps.builds.models import Build, Report
from apps.builds.parsers.case import Case, Outcome
from apps.builds.store import open_book, write_reports
from tests.builds.fake import report_info

ARNS = count(1)
OUTCOMES = {
    "p": Outcome.PASSED,
    "f": Outcome.FAILED,
    "e": Outcome.ERROR,
    "s": Outcome.SKIPPED,
    "u": Outcome.UNKNOWN,
}


def case(name: str, outcome: str = "p", ms: int = 10, **fields: object) -> Case:
    """A case of class C; the outcome by its first letter."""
    ended, duration = OUTCOMES[outcome], ms * 1_000_000
    return Case("suite", "C", name, ended, duration_ns=duration, **fields)  # type: ignore[arg-type]  # a test names them


def evidence(build: Build, *cases: Case, group: str = "unit") -> ReportEvidence:
    """What was read of a report, before any of it is written."""
    book = open_book(service=build.service_id, group=group)
    book.take(cases)
    arn = f"arn:aws:codebuild:eu-central-1:123456789012:report/{group}:{next(ARNS)}"
    info = report_info(group, total=len(cases), arn=arn)
    return ReportEvidence(info, returned=len(cases), cases=book)


def write(build: Build, *reports: ReportEvidence) -> list[Report]:
    """The reports of a build, as collecting it writes them."""
    with transaction.atomic():
        write_reports(build=build, reports=reports)
    return list(build.reports.order_by("pk"))


def report(build: Build, letters: str, *more: Case, group: str = "unit") -> Report:
    """A report of a build whose tests are a, b, c …, with an outcome by letter; "-" where one is missing."""
    cases = [case(chr(ord("a") + index), each) for index, each in enumerate(letters) if each != "-"]
    return write(build, evidence(build, *cases, *more, group=group))[-1]
