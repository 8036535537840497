"""Read a build's reports from CodeBuild and S3: what it declares, and what the raw files hold.

Nothing here touches the database. CodeBuild keeps the first 500 cases of a report and forgets them after
30 days, so the raw files that it exports to S3 are the truth; its own counts are there to notice when the
raw files are not all there.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, cast

from apps.aws import codebuild, s3
from apps.aws.codebuild import CASE_LIMIT, Export, ReportInfo
from apps.aws.errors import AwsError
from apps.aws.s3 import ObjectInfo
from apps.builds.cases import CaseBook
from apps.builds.files import FILE_LIMIT, FilesReader
from apps.builds.parsers.case import Outcome
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import Table

KEY_LIMIT = 20_000  # keys looked at where the raw files are not where they usually are
# What CodeBuild alone does not tell, by the types of reports that are read.
UNTOLD = {
    "TEST": f"what lies beyond CodeBuild's {CASE_LIMIT} cases",
    "CODE_COVERAGE": "what is behind CodeBuild's numbers",
}


@dataclass(frozen=True)
class RawFile:
    """A raw file in S3, as it was read."""

    bucket: str
    key: str
    version: str
    size: int
    sha256: str


@dataclass
class ReportEvidence:
    """A report as it was read; ``problem`` is why it cannot be relied on, and empty when it can.

    ``late`` says that what is missing may still come.
    """

    info: ReportInfo
    returned: int | None = None
    # With a problem, the cases that were read before it.
    cases: CaseBook | None = None
    # Of a coverage report whose raw files could be read.
    coverage: Table | None = None
    files: list[RawFile] = field(default_factory=list)
    problem: str = ""
    late: bool = False

    @property
    def parsed(self) -> int | None:
        """How many cases were read; None where no raw file was."""
        return None if self.cases is None else self.cases.count

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many of them ended in which way."""
        return Counter() if self.cases is None else self.cases.counts()

    @property
    def duration_ns(self) -> int:
        """What they took together."""
        return 0 if self.cases is None else self.cases.duration_ns

    def fail(self, problem: str, *, late: bool = False) -> "ReportEvidence":
        """The report with a problem and without what was read."""
        self.problem, self.late, self.cases, self.coverage = problem, late, None, None
        return self


def read_report(
    info: ReportInfo, *, open_book: Callable[[str], CaseBook], tick: Callable[[], object]
) -> ReportEvidence:
    """Read one report to the end. ``tick`` is called now and then, to keep the caller's lease.

    ``open_book`` gives the book that takes in the cases of a report group. AwsError when AWS cannot be asked;
    whatever is wrong with the report itself is its ``problem``.
    """
    evidence = ReportEvidence(info)
    if info.type not in UNTOLD:
        return evidence.fail(f"reports of type {info.type} are not read")
    if info.status == "GENERATING":
        return evidence.fail("CodeBuild has not finished it", late=True)
    if info.type == "TEST":
        evidence.returned = codebuild.count_test_cases(info.arn)
        tick()
    if info.status not in {"SUCCEEDED", "FAILED"}:
        return evidence.fail(
            f"CodeBuild says {info.status}: a wrong path in the buildspec, no permission, a file it cannot "
            "read, or a build that died"
        )
    if info.export is None:
        return evidence.fail(
            f"its report group exports no raw files, so there is no telling {UNTOLD[info.type]}: set "
            f"exportConfig of {info.group} to S3"
        )
    objects = raw_objects(info, info.export)
    tick()
    if not objects:
        return evidence.fail(
            f"there are no raw files of it below s3://{info.export.bucket}/{info.export.path}", late=True
        )
    if info.type == "TEST":
        return _read_cases(evidence, open_book(info.group), objects, tick)
    return _read_coverage(evidence, objects, tick)


def raw_objects(info: ReportInfo, export: Export) -> list[ObjectInfo]:
    """The raw files of a report in S3, by key.

    AWS does not document the names below ``path``; all that is sure is that the report's id is in them.
    So the usual places are tried first and then the whole path is looked through, up to a limit.
    """
    above = f"{export.path}/" if export.path else ""
    for prefix in (f"{above}{info.group}/{info.id}", f"{above}{info.id}", f"{above}{info.group}:{info.id}"):
        if found := _belonging(s3.list_objects(bucket=export.bucket, prefix=prefix), info.id):
            return found
    return _belonging(islice(s3.list_objects(bucket=export.bucket, prefix=above), KEY_LIMIT), info.id)


def unexplained(evidence: ReportEvidence) -> str:
    """Which of a report's counts contradict each other, with the numbers; empty when none do."""
    info, parsed, returned = evidence.info, evidence.parsed, evidence.returned
    declared = info.total
    numbers = f"declared {_told(declared)}, returned {_told(returned)}, in the raw files {_told(parsed)}"
    if parsed is None or returned is None or declared is None:
        return f"its counts are not all known: {numbers}"
    if info.truncated:
        # The total includes the cases that were cut away (API_TestReportSummary). Should it be cut too,
        # it must be the very limit, and the raw files must hold more.
        explained = returned == CASE_LIMIT and (
            parsed == declared > CASE_LIMIT or (declared == CASE_LIMIT and parsed > CASE_LIMIT)
        )
    else:
        explained = declared == returned == parsed
    if not explained:
        cut = f", cut at {CASE_LIMIT}" if info.truncated else ""
        return f"its counts differ: {numbers}{cut}"
    red = evidence.outcomes[Outcome.FAILED] + evidence.outcomes[Outcome.ERROR]
    declared_red = info.counts.get("FAILED", 0) + info.counts.get("ERROR", 0)
    if declared_red > red:
        return f"CodeBuild counted {declared_red} failed or in error, and the raw files hold {red}"
    return ""


def uncounted(evidence: ReportEvidence) -> str:
    """How a coverage report's lines differ from what CodeBuild counted; empty when they do not.

    Branches are not compared: what is one differs from tool to tool, and no rule asks for them.
    """
    declared = evidence.info.coverage
    summed = evidence.coverage.sum() if evidence.coverage else None
    if declared is None or summed is None:
        return "its lines cannot be compared, since CodeBuild gives no summary of them"
    if (declared.lines_covered, declared.lines_total) != (summed.lines_covered, summed.lines_total):
        return (
            f"CodeBuild counted {declared.lines_covered:,} of {declared.lines_total:,} lines as covered, and "
            f"the raw files hold {summed.lines_covered:,} of {summed.lines_total:,}"
        )
    return ""


def _belonging(objects: Iterator[ObjectInfo], report_id: str) -> list[ObjectInfo]:
    # One more than is read, so that too many are noticed.
    mine = (item for item in objects if report_id in item.key and not item.key.endswith("/"))
    return list(islice(mine, FILE_LIMIT + 1))


def _read_cases(
    evidence: ReportEvidence, cases: CaseBook, objects: list[ObjectInfo], tick: Callable[[], object]
) -> ReportEvidence:
    evidence.cases = cases
    try:
        for reader, name, stream in _opened(evidence, objects, tick):
            cases.take(reader.cases(name, stream))
    except ReportRefused as error:
        evidence.problem = f"{error}; {evidence.parsed:,} test cases were read before that"
    else:
        evidence.problem = unexplained(evidence)
    return evidence


def _read_coverage(
    evidence: ReportEvidence, objects: list[ObjectInfo], tick: Callable[[], object]
) -> ReportEvidence:
    table = Table()
    try:
        for reader, name, stream in _opened(evidence, objects, tick):
            for file in reader.coverage(name, stream):
                table.add(file)
    except ReportRefused as error:
        return evidence.fail(str(error))
    if not table.sum().lines_total:
        return evidence.fail("its raw files tell of no line")
    evidence.coverage = table
    evidence.problem = uncounted(evidence)
    return evidence


def _opened(
    evidence: ReportEvidence, objects: list[ObjectInfo], tick: Callable[[], object]
) -> Iterator[tuple[FilesReader, str, IO[bytes]]]:
    """Each raw file of a report, noted and open, with its name and the reader of all of them."""
    if len(objects) > FILE_LIMIT:
        raise ReportRefused(f"it has more than {FILE_LIMIT:,} raw files")
    reader = FilesReader(tick=tick)
    for item in objects:
        with _downloaded(item, reader.room, tick) as (raw, stream):
            evidence.files.append(raw)
            yield reader, item.key.rpartition("/")[2], stream


@contextmanager
def _downloaded(
    item: ObjectInfo, room: int, tick: Callable[[], object]
) -> Iterator[tuple[RawFile, IO[bytes]]]:
    with tempfile.TemporaryFile() as file:
        stream = cast("IO[bytes]", file)
        try:
            got = s3.download(bucket=item.bucket, key=item.key, into=stream, limit=room, tick=tick)
        except s3.TooLarge as error:
            raise ReportRefused(str(error)) from error
        except AwsError as error:
            if s3.is_missing(error):
                raise ReportRefused(f"the raw file {item.key} disappeared while it was read") from error
            raise
        stream.seek(0)
        yield RawFile(item.bucket, item.key, got.version, got.size, got.sha256), stream


def _told(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
