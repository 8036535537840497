"""Write the evidence of a build: reports, raw files, tests, how they ended, and what did not pass.

Locks are taken in one order everywhere, so that writers wait for each other and never in a circle: the
build's row, the report groups by id, the ledger's chain.
"""

import io
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.db import IntegrityError, connection, transaction

from apps.access.models import User
from apps.builds.arrays import array_literal
from apps.builds.cases import CaseBook, Named
from apps.builds.coverage import COVERAGE, pack
from apps.builds.evidence import RawFile, ReportEvidence
from apps.builds.flaky import judge_cases
from apps.builds.models import (
    Build,
    CoveredFiles,
    Report,
    ReportFile,
    ReportGroup,
    ReportOutcomes,
    TestCase,
    TestResult,
)
from apps.builds.outcomes import SIZE
from apps.builds.parsers.case import Outcome
from apps.builds.parsers.file_coverage import Table
from apps.errors import DomainError

if TYPE_CHECKING:
    from psycopg2 import extensions

BATCH = 5000  # rows that are looked up at once
COPY_BYTES = 1 << 20  # of one COPY statement, about

T = TypeVar("T")


def open_book(*, service: int, group: str) -> CaseBook:
    """A book for the cases of a report, which knows those that the service's group has so far."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT g.id, g.size, string_agg(i.identities, ''::bytea ORDER BY i.position)
            FROM builds_reportgroup g LEFT JOIN builds_caseidentities i ON i.group_id = g.id
            WHERE g.service_id = %s AND g.name = %s GROUP BY g.id
            """,
            [service, group],
        )
        if (row := cursor.fetchone()) is None:
            return CaseBook(service=service, group=group)
        key, size, told = row
        identities = _numbers("q", told)
        positions: Sequence[int] = range(size)
        if len(identities) != size:
            identities, positions = _find_all(cursor, key)
    return CaseBook(service=service, group=group, identities=identities, positions=positions)


def _find_all(cursor: Any, group: int) -> tuple["array[int]", "array[int]"]:
    """Ids and positions of a group's cases, by their rows: two columns as two strings of bytes."""
    cursor.execute(
        """
        SELECT string_agg(int8send(id), ''::bytea), string_agg(int4send(position), ''::bytea)
        FROM builds_testcase WHERE position IS NOT NULL AND report_group_id = %s
        """,
        [group],
    )
    identities, positions = cursor.fetchone()
    return _numbers("q", identities), _numbers("i", positions)


def write_reports(*, build: Build, reports: Sequence[ReportEvidence]) -> None:
    """Write all reports of a build.

    Call it inside the transaction that marks the build as collected, which holds the lock on its row.
    """
    groups = _lock_groups(build.service_id, {each.info.group for each in reports if each.cases})
    names: dict[str, ReportEvidence] = {}
    for evidence in reports:
        # A group can hold two reports of one build, where the buildspec names it by ARN twice.
        name, twin = evidence.info.group, 1
        while name in names:
            twin += 1
            name = f"{evidence.info.group} ({twin})"
        names[name] = evidence
    _give_way(build, names)
    for name, evidence in names.items():
        _write_report(build, name, evidence, groups)


def write_asserted_report(
    *,
    build: Build,
    name: str,
    read: CaseBook | Table,
    files: Sequence[RawFile],
    problem: str,
    asserted_by: User,
) -> Report:
    """Write a report that a caller sent; call it inside a transaction that holds the build's row."""
    if isinstance(read, Table):
        told: dict[str, Any] = {"type": COVERAGE, "status": "SUCCEEDED", **_lines(read)}
    else:
        group = _lock_groups(build.service_id, {name})[name]
        try:
            outcomes = _write_cases(group, read)
        except _Collision as error:
            raise DomainError(f"{str(error)[:1].upper()}{str(error)[1:]}, so nothing was written.") from error
        counts = read.counts()
        told = {
            "type": "TEST",
            "status": "FAILED" if counts[Outcome.FAILED] or counts[Outcome.ERROR] else "SUCCEEDED",
            "group": group,
            "parsed": read.count,
            "duration_ns": read.duration_ns,
            **_counters(counts),
        }
    report = Report.objects.create(
        build=build,
        source=Report.Source.ASSERTED,
        asserted_by=asserted_by,
        name=name,
        arn=None,
        problem=problem,
        **told,
    )
    _write_files(report, files)
    if isinstance(read, Table):
        _write_covered(report, read)
    else:
        _write_outcomes(report, read, outcomes)
    return report


def _give_way(build: Build, names: Iterable[str]) -> None:
    """Rename what callers sent under the names of CodeBuild's own reports, which nobody may take."""
    for report in Report.objects.filter(build=build, source=Report.Source.ASSERTED, name__in=names):
        report.name = f"{report.name} (asserted, {report.pk})"
        report.save(update_fields=["name"])


def _lock_groups(service: int, names: set[str]) -> dict[str, ReportGroup]:
    """The groups by name, made where they are missing, and locked until the end of the transaction."""
    if not names:
        return {}
    ReportGroup.objects.bulk_create(
        [ReportGroup(service_id=service, name=name) for name in sorted(names)], ignore_conflicts=True
    )
    groups = ReportGroup.objects.filter(service=service, name__in=names).order_by("pk")
    return {group.name: group for group in groups.select_for_update(no_key=True)}


def _write_report(
    build: Build, name: str, evidence: ReportEvidence, groups: Mapping[str, ReportGroup]
) -> Report:
    outcomes = None
    if evidence.cases:
        try:
            outcomes = _write_cases(groups[evidence.info.group], evidence.cases)
        except _Collision as error:
            evidence.fail(str(error))
    info, counts = evidence.info, evidence.outcomes
    report = Report.objects.create(
        build=build,
        group=groups[info.group] if outcomes is not None else None,
        name=name,
        arn=info.arn,
        type=info.type,
        status=info.status,
        truncated=info.truncated,
        declared=info.total,
        returned=evidence.returned,
        parsed=evidence.parsed,
        duration_ns=evidence.duration_ns,
        problem=evidence.problem,
        **_counters(counts),
        **(_lines(evidence.coverage) if evidence.coverage else {}),
    )
    if evidence.coverage:
        _write_covered(report, evidence.coverage)
    _write_files(report, evidence.files)
    if evidence.cases and outcomes is not None:
        _write_outcomes(report, evidence.cases, outcomes)
    return report


def _counters(counts: Mapping[Outcome, int]) -> dict[str, int]:
    return {
        "passed": counts[Outcome.PASSED],
        "failed": counts[Outcome.FAILED],
        "errors": counts[Outcome.ERROR],
        "skipped": counts[Outcome.SKIPPED],
        "unknown": counts[Outcome.UNKNOWN],
    }


def _lines(coverage: Table) -> dict[str, int | None]:
    summed = coverage.sum()
    return {
        "lines_covered": summed.lines_covered,
        "lines_total": summed.lines_total,
        "branches_covered": summed.branches_covered,
        "branches_total": summed.branches_total,
    }


def _write_covered(report: Report, coverage: Table) -> None:
    CoveredFiles.objects.create(report=report, packed=pack(coverage.files()))


def _write_files(report: Report, files: Iterable[RawFile]) -> None:
    ReportFile.objects.bulk_create(
        [
            ReportFile(
                report=report,
                bucket=file.bucket,
                key=file.key,
                version=file.version,
                size=file.size,
                sha256=file.sha256,
            )
            for file in files
        ],
        batch_size=BATCH,
    )


def _write_outcomes(report: Report, book: CaseBook, outcomes: bytearray) -> None:
    ReportOutcomes.objects.create(report=report, data=outcomes)
    columns = ("report_id", "case_id", "status", "duration_ns", "message")
    _copy(
        TestResult,
        columns,
        (
            f"{report.pk}\t{case}\t{outcome}\t{duration_ns}\t{_escaped(message)}\n"
            for case, outcome, duration_ns, message in book.kept()
        ),
    )
    judge_cases(report=report, outcomes=outcomes)


class _Collision(Exception):
    """A test has the identity of another one."""


def _write_cases(group: ReportGroup, book: CaseBook) -> bytearray:
    """Make sure that every case has its row and its position; the outcomes by position.

    Raises _Collision if a row turns out to be another test's. Names are compared of the new ones, and of
    those that did not pass: a 64-bit identity could already be another test's.
    """
    if book.new and group.size == book.known:
        # Nobody brought a case since the book was opened, so the new ones can only be there as tests of
        # another group, or of a release before positions. That is not worth looking for beforehand.
        try:
            with transaction.atomic():
                return _place_cases(group, book, are_new=True)
        except IntegrityError:
            pass
    return _place_cases(group, book)


def _place_cases(group: ReportGroup, book: CaseBook, *, are_new: bool = False) -> bytearray:
    # Final positions of the new ones, by the order in which they got provisional ones.
    final = array("q", bytes(8 * len(book.new)))
    size = group.size
    told_group = f"{group.service_id}\t{_escaped(group.name)}\t{group.pk}"
    for batch in _batches(book.named(), BATCH):
        found = _find([each.id for each in batch if not (are_new and each.new)])
        rows = []
        homeless = []
        for each in batch:
            row = found.get(each.id)
            if row is None:
                position: int | None = None
                rows.append((each, size))
            else:
                *told, position = row
                _compare(each, told, group)
                if position is None:
                    # A release before positions wrote it.
                    homeless.append(TestCase(pk=each.id, report_group=group, position=size))
            if position is None:
                position = size
                size += 1
            if each.new:
                final[each.position - book.known] = position
        TestCase.objects.bulk_update(homeless, ["report_group", "position"])
        _copy(TestCase, _COLUMNS, (_line(told_group, each, position) for each, position in rows))
    if size != group.size:
        group.size = size
        group.save(update_fields=["size"])
        _write_identities(group)
    return _by_position(book, final)


def _write_identities(group: ReportGroup) -> None:
    """Add a row of the identities that the group's rows do not have yet.

    None where a position between them has no case, which can only be if somebody deleted its row.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH told AS (
                SELECT coalesce((
                    SELECT position + octet_length(identities) / 8 FROM builds_caseidentities
                    WHERE group_id = %s ORDER BY position DESC LIMIT 1
                ), 0) AS number
            )
            INSERT INTO builds_caseidentities (group_id, position, identities)
            SELECT %s, told.number, string_agg(int8send(c.id), ''::bytea ORDER BY c.position)
            FROM told JOIN builds_testcase c ON c.report_group_id = %s AND c.position >= told.number
            GROUP BY told.number HAVING count(*) = %s - told.number
            """,
            [group.pk, group.pk, group.pk, group.size],
        )


def _find(identities: list[int]) -> dict[int, tuple[Any, ...]]:
    """What identifies the cases of these ids that are there, and their positions.

    LATERAL with LIMIT looks up each; PostgreSQL would rather go through the whole table for thousands.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT found.* FROM unnest(%s::bigint[]) AS wanted, LATERAL (
                SELECT id, service_id, "group", suite, class_name, name, ordinal, position
                FROM builds_testcase WHERE id = wanted LIMIT 1
            ) AS found
            """,
            [array_literal(identities)],
        )
        return {row[0]: row[1:] for row in cursor.fetchall()}


_COLUMNS = (
    "id",
    "service_id",
    "group",
    "report_group_id",
    "position",
    "suite",
    "class_name",
    "name",
    "ordinal",
)


def _line(group: str, case: Named, position: int) -> str:
    return (
        f"{case.id}\t{group}\t{position}\t{_escaped(case.suite)}\t{_escaped(case.class_name)}\t"
        f"{_escaped(case.name)}\t{case.ordinal}\n"
    )


def _compare(case: Named, told: list[Any], group: ReportGroup) -> None:
    own = [group.service_id, group.name, case.suite, case.class_name, case.name, case.ordinal]
    if told != own:
        other = f"{told[3]}::{told[4]}" if told[3] else told[4]
        raise _Collision(f"the test {case.class_name} {case.name} has the same identity as {other}")


def _by_position(book: CaseBook, final: "array[int]") -> bytearray:
    """A book's outcomes, moved to where they belong if another report came first."""
    if all(position == book.known + index for index, position in enumerate(final)):
        return book.outcomes
    end = max(final) + 1
    moved = book.outcomes[: book.known * SIZE]
    moved += bytes(end * SIZE - len(moved))
    for index, position in enumerate(final):
        start = (book.known + index) * SIZE
        moved[position * SIZE : (position + 1) * SIZE] = book.outcomes[start : start + SIZE]
    return moved


def _copy(model: Any, columns: tuple[str, ...], lines: Iterable[str]) -> None:
    """Insert rows by COPY, some at a time, so that memory stays small; a line has their values by tabs."""
    table = model._meta.db_table
    names = ", ".join(f'"{column}"' for column in columns)
    statement = f"COPY {table} ({names}) FROM STDIN"
    buffer = io.BytesIO()
    with connection.cursor() as wrapper, closing(buffer):
        # Not part of Django's own cursor.
        cursor = cast("extensions.cursor", wrapper)
        for line in lines:
            buffer.write(line.encode())
            if buffer.tell() >= COPY_BYTES:
                _send(cursor, statement, buffer)
        if buffer.tell():
            _send(cursor, statement, buffer)


def _send(cursor: "extensions.cursor", statement: str, buffer: io.BytesIO) -> None:
    buffer.seek(0)
    with connection.wrap_database_errors:
        cursor.copy_expert(statement, buffer)
    buffer.seek(0)
    buffer.truncate()


def _escaped(text: str) -> str:
    """A value as COPY's text format has it, where a backslash begins an escape."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _numbers(code: str, data: memoryview | None) -> "array[int]":
    """Big-endian numbers, as PostgreSQL sends them."""
    numbers = array(code)
    if data is not None:
        numbers.frombytes(data)
        if sys.byteorder == "little":
            numbers.byteswap()
    return numbers


def _batches(rows: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(rows, size)):
        yield batch
