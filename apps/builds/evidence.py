"""Read a build's test reports from CodeBuild and S3: what it declares, and what the raw files hold.

Nothing here touches the database. CodeBuild keeps the first 500 cases of a report and forgets them after
30 days, so the raw files that it exports to S3 are the truth; its own counts are there to notice when the
raw files are not all there.
"""

import tempfile
import zipfile
import zlib
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
from apps.builds.cases import case_id
from apps.builds.parsers import recognise
from apps.builds.parsers.case import Case, Outcome
from apps.builds.parsers.errors import ReportRefused

# What one report may hold; beyond it, it is not read, and says so.
FILE_LIMIT = 10_000  # files
BYTE_LIMIT = 1 << 30  # bytes in all files together, unpacked
PARSED_LIMIT = 500_000  # cases
KEY_LIMIT = 20_000  # keys looked at where the raw files are not where they usually are


@dataclass(frozen=True)
class RawFile:
    """A raw file in S3, as it was read."""

    bucket: str
    key: str
    version: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Identified:
    """A case with its identity."""

    id: int
    case: Case
    ordinal: int


@dataclass
class ReportEvidence:
    """A report as it was read; ``problem`` is why it cannot be relied on, and empty when it can.

    ``late`` says that what is missing may still come.
    """

    info: ReportInfo
    returned: int | None = None
    parsed: int | None = None
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    duration_ns: int = 0
    cases: list[Identified] = field(default_factory=list)
    files: list[RawFile] = field(default_factory=list)
    problem: str = ""
    late: bool = False

    def fail(self, problem: str, *, late: bool = False) -> "ReportEvidence":
        """The report with a problem and without the cases, which would be only some of them."""
        self.problem, self.late = problem, late
        self.parsed, self.duration_ns, self.cases = None, 0, []
        self.outcomes.clear()
        return self


def read_report(info: ReportInfo, *, service: int, tick: Callable[[], object]) -> ReportEvidence:
    """Read one report to the end. ``tick`` is called now and then, to keep the caller's lease.

    AwsError when AWS cannot be asked; whatever is wrong with the report itself is its ``problem``.
    """
    evidence = ReportEvidence(info)
    if info.type != "TEST":
        return evidence.fail(f"reports of type {info.type} are not read")
    if info.status == "GENERATING":
        return evidence.fail("CodeBuild has not finished it", late=True)
    evidence.returned = codebuild.count_test_cases(info.arn)
    tick()
    if info.status not in {"SUCCEEDED", "FAILED"}:
        return evidence.fail(
            f"CodeBuild says {info.status}: a wrong path in the buildspec, no permission, a file it cannot "
            "read, or a build that died"
        )
    if info.export is None:
        return evidence.fail(
            "its report group exports no raw files, so there is no telling what lies beyond CodeBuild's "
            f"{CASE_LIMIT} cases: set exportConfig of {info.group} to S3"
        )
    objects = raw_objects(info, info.export)
    tick()
    if not objects:
        return evidence.fail(
            f"there are no raw files of it below s3://{info.export.bucket}/{info.export.path}", late=True
        )
    try:
        _read_files(evidence, objects, service, tick)
    except ReportRefused as error:
        return evidence.fail(str(error))
    evidence.problem = unexplained(evidence)
    return evidence


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


def _belonging(objects: Iterator[ObjectInfo], report_id: str) -> list[ObjectInfo]:
    # One more than is read, so that too many are noticed.
    mine = (item for item in objects if report_id in item.key and not item.key.endswith("/"))
    return list(islice(mine, FILE_LIMIT + 1))


def _read_files(
    evidence: ReportEvidence, objects: list[ObjectInfo], service: int, tick: Callable[[], object]
) -> None:
    if len(objects) > FILE_LIMIT:
        raise ReportRefused(f"it has more than {FILE_LIMIT:,} raw files")
    room = BYTE_LIMIT
    known: Counter[tuple[str, str, str]] = Counter()
    seen: set[int] = set()
    formats: set[str] = set()
    for item in objects:
        if room <= 0:
            raise ReportRefused(f"its raw files hold more than {BYTE_LIMIT:,} bytes")
        with _downloaded(item, room, tick) as (raw, stream):
            evidence.files.append(raw)
            for name, member, size in _members(item.key, stream, room):
                room -= size
                for case in _named(name, member, formats):
                    key = (case.suite, case.class_name, case.name)
                    ordinal, known[key] = known[key], known[key] + 1
                    identity = case_id(service=service, group=evidence.info.group, case=case, ordinal=ordinal)
                    if identity in seen:
                        # The ordinals differ, so this is a collision of 64-bit hashes.
                        raise ReportRefused(f"another test has the identity of {case.class_name} {case.name}")
                    seen.add(identity)
                    if len(seen) > PARSED_LIMIT:
                        raise ReportRefused(f"it has more than {PARSED_LIMIT:,} test cases")
                    evidence.cases.append(Identified(identity, case, ordinal))
                    evidence.outcomes[case.outcome] += 1
                    evidence.duration_ns += case.duration_ns
                tick()
    evidence.parsed = len(evidence.cases)


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


def _members(key: str, stream: IO[bytes], room: int) -> Iterator[tuple[str, IO[bytes], int]]:
    """The report files in a raw file: itself, or what a ZIP archive holds. With their sizes."""
    if not key.endswith(".zip"):
        size = stream.seek(0, 2)
        stream.seek(0)
        yield key.rpartition("/")[2], stream, size
        return
    try:
        with zipfile.ZipFile(stream) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) > FILE_LIMIT:
                raise ReportRefused(f"{key} has more than {FILE_LIMIT:,} files")
            for member in members:
                room -= member.file_size
                if room < 0:
                    raise ReportRefused(f"{key} unpacks to more than {BYTE_LIMIT:,} bytes")
                # zipfile stops at the declared size, and checks the CRC there.
                with archive.open(member) as opened:
                    yield member.filename, opened, member.file_size
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        # Damaged, packed in a way that zipfile does not know, or encrypted.
        raise ReportRefused(f"{key} is not a readable ZIP archive: {error}") from error


def _named(name: str, stream: IO[bytes], formats: set[str]) -> Iterator[Case]:
    """The cases of one file, whose format joins ``formats``; what is refused names the file."""
    try:
        found = recognise(stream)
        formats.add(found.name)
        if len(formats) > 1:
            # A report has one format in CodeBuild, so one of the files is none of its own.
            raise ReportRefused(f"the report has files of two formats, {' and '.join(sorted(formats))}")
        yield from found.cases(stream)
    except (ReportRefused, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ReportRefused(f"{name}: {error}") from error


def _told(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
