"""Take reports that a caller sends: evidence that Lockkeeper did not read itself, and marks as asserted."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from django.db import transaction

from apps.access.models import User
from apps.aws import s3
from apps.aws.errors import AwsError
from apps.builds.cases import CaseBook
from apps.builds.evidence import RawFile
from apps.builds.files import FilesReader, TooMuch, WrongFormat
from apps.builds.models import Build, Report
from apps.builds.parsers import FORMATS
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import Table
from apps.builds.signals import evidence_added
from apps.builds.store import open_book, write_asserted_report
from apps.catalog.permissions import MOVERS, require_role
from apps.errors import DomainError, Invalid, TooLarge, Unavailable
from apps.ledger.services import record

NAME_LIMIT = 200  # characters


@dataclass(frozen=True)
class SentFile:
    """A report file as it was sent."""

    name: str
    content: IO[bytes]  # seekable
    size: int
    sha256: str  # hexadecimal


def add_report(
    *, build: Build, name: str, files: Sequence[SentFile], declared_format: str = "", asserted_by: User
) -> tuple[Report, bool]:
    """Read a report that a caller sends for a build, keep its raw files in S3, write it; True if it is new.

    The same files under the same name are the same report. Raises DomainError for other files under a name
    that the build has already, Invalid for what is no report from its first byte on, TooLarge for what
    unpacks to too much, and Unavailable where S3 does not take the files. A file that can be read only in
    part makes a report of tests incomplete, and what was read before it is kept; one of coverage is Invalid,
    since lines say nothing without the rest.
    """
    require_role(user=asserted_by, service=build.service, roles=MOVERS)
    _check(name, files, declared_format)
    if known := Report.objects.filter(build=build, name=name).first():
        return _same(known, files), False
    read: CaseBook | Table
    if FilesReader().is_coverage(files[0].name, files[0].content):
        read, problem = _read_coverage(files, declared_format), ""
    else:
        read = open_book(service=build.service_id, group=name)
        problem = _read_cases(read, files, declared_format)
    # Before the transaction, which must not wait for S3. What is written here and not there harms nobody.
    raw = [_keep(build, file) for file in files]
    with transaction.atomic():
        # First, as everywhere; so of two that send the same, the second one finds the first one's.
        Build.objects.select_for_update(no_key=True).get(pk=build.pk)
        if known := Report.objects.filter(build=build, name=name).first():
            return _same(known, files), False
        report = write_asserted_report(
            build=build, name=name, read=read, files=raw, problem=problem, asserted_by=asserted_by
        )
        transaction.on_commit(lambda: evidence_added.send(sender=Build, build=build))
        record(
            chain=build.service.slug,
            action="report.asserted",
            subject=f"build:{build.pk}",
            actor=asserted_by,
            data={
                "name": name,
                "parsed": report.parsed,
                "failed": report.failed,
                "errors": report.errors,
                "skipped": report.skipped,
                "lines_covered": report.lines_covered,
                "lines_total": report.lines_total,
                "problem": report.problem,
                "files": [{"key": file.key, "version": file.version, "sha256": file.sha256} for file in raw],
            },
        )
    return report, True


def _check(name: str, files: Sequence[SentFile], declared_format: str) -> None:
    if not 0 < len(name) <= NAME_LIMIT or name != name.strip() or not name.isprintable() or "/" in name:
        raise Invalid(
            f"{name[:80]!r} is no name of a report: 1 to {NAME_LIMIT} printable characters, no slash, and no "
            "space at either end."
        )
    if declared_format and declared_format.upper() not in FORMATS:
        raise Invalid(f"There is no format {declared_format[:80]!r}; one of {', '.join(FORMATS)}.")
    if not files:
        raise Invalid("No file was sent: a report comes as one or more parts named file.")
    twice = [sent for sent, times in Counter(file.name for file in files).items() if times > 1]
    if twice:
        raise Invalid(f"Two of the files are called {twice[0][:200]}.")


def _read_cases(book: CaseBook, files: Sequence[SentFile], declared_format: str) -> str:
    """Read all files into the book; what is wrong with them, and empty where nothing is."""
    reader = FilesReader(declared_format)
    try:
        for file in files:
            file.content.seek(0)
            book.take(reader.cases(file.name, file.content))
    except TooMuch as error:
        raise TooLarge(f"{error}. Send several reports.") from error
    except ReportRefused as error:
        if isinstance(error, WrongFormat) or not book.count:
            raise Invalid(f"{error}. Nothing was kept.") from error
        return f"{error}; {book.count:,} test cases were read before that"
    if not book.count:
        raise Invalid(
            "No test case is in any of the files, so there is nothing to judge by. Nothing was kept."
        )
    return ""


def _read_coverage(files: Sequence[SentFile], declared_format: str) -> Table:
    reader, table = FilesReader(declared_format), Table()
    try:
        for file in files:
            file.content.seek(0)
            for covered in reader.coverage(file.name, file.content):
                table.add(covered)
    except TooMuch as error:
        raise TooLarge(f"{error}. Send several reports.") from error
    except ReportRefused as error:
        raise Invalid(f"{error}. Nothing was kept.") from error
    if not table.sum().lines_total:
        raise Invalid("The files tell of no line, so there is nothing to judge by. Nothing was kept.")
    return table


def _keep(build: Build, file: SentFile) -> RawFile:
    """Have a raw file in S3, under a key that says what is in it."""
    bucket = build.service.bucket
    name = re.sub(r"[^A-Za-z0-9._-]", "_", file.name)[-100:]
    key = f"uploads/{build.service.slug}/{build.pk}/{file.sha256}/{name}"
    try:
        try:
            kept = s3.put_if_absent(bucket=bucket, key=key, body=file.content, sha256=file.sha256)
        except AwsError as error:
            if error.code != "PreconditionFailed":
                raise
            # The same bytes, since the key has their hash.
            kept = s3.head(bucket=bucket, key=key)
    except AwsError as error:
        raise Unavailable(
            f"The raw file could not be kept in S3, so nothing was written. {error}",
            retry_after=5 if error.retryable else 60,
        ) from error
    return RawFile(bucket, key, kept.version, file.size, file.sha256)


def _same(report: Report, files: Sequence[SentFile]) -> Report:
    if report.pruned_at is not None:
        raise DomainError(
            f"The build's report {report.name} was pruned on {report.pruned_at:%Y-%m-%d}; start a new "
            "build for new evidence."
        )
    if sorted(file.sha256 for file in files) != sorted(report.files.values_list("sha256", flat=True)):
        raise DomainError(
            f"The build has a report {report.name} already, of other files, and evidence is not replaced. "
            "Give this one another name."
        )
    return report
