"""Report groups and reports: what a build's files say, and the raw files exported to S3.

They are read by the product's own readers (apps/builds/parsers), so that the two cannot disagree.
"""

import io
import threading
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from apps.builds.parsers import recognise
from apps.builds.parsers.case import Case
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import Coverage, FileCoverage, Table
from apps.sandbox.codebuild.files import open_regular
from apps.sandbox.runtime import Runtime
from apps.specs.buildspec import COVERAGE_FORMATS, ReportSpec

# https://docs.aws.amazon.com/codebuild/latest/userguide/test-report.html
MAX_CASES = 500
EXPIRES_AFTER = timedelta(days=30)
STATUSES = ("SUCCEEDED", "FAILED", "ERROR", "SKIPPED", "UNKNOWN")
NO_EXPORT = {"exportConfigType": "NO_EXPORT"}


@dataclass
class ReportGroup:
    """A report group; `arns` are its reports, oldest first."""

    arn: str
    name: str
    type: str
    export_config: dict[str, Any]
    created: datetime
    tags: list[dict[str, str]] = field(default_factory=list)
    arns: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """Return what BatchGetReportGroups tells."""
        return {
            "arn": self.arn,
            "name": self.name,
            "type": self.type,
            "exportConfig": self.export_config,
            "created": self.created,
            "lastModified": self.created,
            "tags": self.tags,
            "status": "ACTIVE",
        }


@dataclass(frozen=True)
class KeptCase:
    """A test case and the file that it came from."""

    case: Case
    path: str


@dataclass
class Report:
    """One report of one build.

    `total`, `counts` and `nanoseconds` are of all test cases (TestReportSummary: "The total includes
    truncated test cases"); `cases` are the at most 500 that CodeBuild keeps, FAILED first.
    """

    arn: str
    group: ReportGroup
    execution_id: str
    created: datetime
    status: str = "GENERATING"
    counts: Counter[str] = field(default_factory=Counter)
    nanoseconds: int = 0
    # Of a coverage report, its files.
    table: Table = field(default_factory=Table)
    _failed: list[KeptCase] = field(default_factory=list)
    _others: list[KeptCase] = field(default_factory=list)

    def add(self, case: Case, path: str) -> None:
        """Count a case, and keep it if there is room: CodeBuild's docs name only FAILED as preferred."""
        self.counts[case.outcome] += 1
        self.nanoseconds += case.duration_ns
        kept = self._failed if case.outcome == "FAILED" else self._others
        if len(kept) < MAX_CASES:
            kept.append(KeptCase(case, path))

    @property
    def cases(self) -> list[KeptCase]:
        return (self._failed + self._others)[:MAX_CASES]

    @property
    def expired(self) -> datetime:
        return self.created + EXPIRES_AFTER

    def describe(self) -> dict[str, Any]:
        """Return what BatchGetReports tells."""
        total = self.counts.total()
        summary = {
            "total": total,
            "statusCounts": {status: self.counts[status] for status in STATUSES},
            "durationInNanoSeconds": self.nanoseconds,
        }
        return {
            "arn": self.arn,
            "type": self.group.type,
            "name": self.group.name,
            "reportGroupArn": self.group.arn,
            "executionId": self.execution_id,
            "status": self.status,
            "created": self.created,
            "expired": self.expired,
            "exportConfig": self.group.export_config,
            "truncated": total > MAX_CASES,
            "testSummary": summary if self.group.type == "TEST" and self.status != "GENERATING" else None,
            "codeCoverageSummary": coverage_counts(self.table.sum())
            if self.group.type == "CODE_COVERAGE" and self.status != "GENERATING"
            else None,
        }

    def describe_file(self, file: FileCoverage) -> dict[str, Any]:
        """Return what DescribeCodeCoverages tells of one source file."""
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.arn} {file.path}")),
            "reportARN": self.arn,
            "filePath": file.path or "?",
            **coverage_counts(file),
            "expired": self.expired,
        }

    def describe_case(self, kept: KeptCase) -> dict[str, Any]:
        """Return what DescribeTestCases tells of one case."""
        case = kept.case
        return {
            "reportArn": self.arn,
            "testRawDataPath": kept.path,
            "prefix": case.class_name,
            "name": case.name,
            "status": str(case.outcome),
            "durationInNanoSeconds": case.duration_ns,
            "message": case.text or None,
            "expired": self.expired,
            "testSuiteName": case.suite or None,
        }


def coverage_counts(of: Coverage | FileCoverage) -> dict[str, Any]:
    """Return the numbers that CodeBuild gives of a report and of each of its files.

    https://docs.aws.amazon.com/codebuild/latest/APIReference/API_CodeCoverageReportSummary.html
    """
    branches, taken = of.branches_total or 0, of.branches_covered or 0
    return {
        "linesCovered": of.lines_covered,
        "linesMissed": of.lines_total - of.lines_covered,
        "lineCoveragePercentage": round(100 * of.lines_covered / of.lines_total, 2)
        if of.lines_total
        else 0.0,
        "branchesCovered": taken,
        "branchesMissed": branches - taken,
        "branchCoveragePercentage": round(100 * taken / branches, 2) if branches else 0.0,
    }


class ReportStore:
    """All report groups and reports of the account."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.groups: dict[str, ReportGroup] = {}
        self.reports: dict[str, Report] = {}
        self.lock = threading.Lock()

    def create_group(
        self, name: str, kind: str, export_config: dict[str, Any], tags: list[dict[str, str]]
    ) -> ReportGroup:
        """Make a report group; raise KeyError where there is one of that name."""
        with self.lock:
            return self._create_group(name, kind, export_config, tags)

    def _create_group(
        self, name: str, kind: str, export_config: dict[str, Any], tags: list[dict[str, str]]
    ) -> ReportGroup:
        arn = self.runtime.arn("codebuild", f"report-group/{name}")
        if arn in self.groups:
            raise KeyError(arn)
        self.groups[arn] = ReportGroup(arn, name, kind, export_config, datetime.now(UTC), tags)
        return self.groups[arn]

    def open_report(self, spec: ReportSpec, project: str, build_arn: str) -> Report:
        """Start a report in state GENERATING.

        A name in the buildspec stands for the group `<project>-<name>`, made when it is missing; an ARN
        for that very group. Raises KeyError where an ARN is unknown.
        """
        with self.lock:
            if spec.group.startswith("arn:"):
                group = self.groups[spec.group]
            else:
                name = f"{project}-{spec.group}"
                arn = self.runtime.arn("codebuild", f"report-group/{name}")
                kind = "CODE_COVERAGE" if spec.file_format in COVERAGE_FORMATS else "TEST"
                group = self.groups.get(arn) or self._create_group(name, kind, dict(NO_EXPORT), [])
            arn = self.runtime.arn("codebuild", f"report/{group.name}:{uuid.uuid4()}")
            report = Report(arn, group, build_arn, datetime.now(UTC))
            self.reports[arn] = report
            group.arns.append(arn)
            return report


def fill_report(
    report: Report, spec: ReportSpec, files: list[tuple[str, Path]], s3: Any, log: Callable[[str], None]
) -> None:
    """Export a report's raw files and read them; leaves it SUCCEEDED, FAILED or INCOMPLETE.

    One with a file that cannot be read, or is in another format than the buildspec says, ends INCOMPLETE; the
    reason is in the build's log.
    """
    complete = export_raw(report, files, s3, log)
    for name, path in files:
        complete &= _read(report, spec, name, path, log)
    if not complete:
        report.status = "INCOMPLETE"
    else:
        report.status = "FAILED" if report.counts["FAILED"] or report.counts["ERROR"] else "SUCCEEDED"
    told = f"{report.counts.total()} test cases"
    if spec.file_format in COVERAGE_FORMATS:
        lines = report.table.sum()
        told = f"{lines.lines_covered} of {lines.lines_total} lines covered"
    log(f"Report {report.arn}: {report.status}, {told}")


def _read(report: Report, spec: ReportSpec, name: str, path: Path, log: Callable[[str], None]) -> bool:
    try:
        with open_regular(path) as stream:
            found = recognise(stream, spec.file_format)
            if found.is_coverage:
                for file in found.coverage(stream):
                    report.table.add(file)
            else:
                for case in found.cases(stream):
                    report.add(case, name)
    except (ReportRefused, OSError) as error:
        log(f"Report {report.group.name}: {name}: {error}")
        return False
    return True


def export_raw(report: Report, files: list[tuple[str, Path]], s3: Any, log: Callable[[str], None]) -> bool:
    """Put the raw files where the group's exportConfig says; return whether that went well.

    AWS does not document how it names the objects below `path`. Here they are
    `<path>/<group name>/<report id>/<file>`, or `<path>/<group name>/<report id>.zip` with packaging ZIP,
    the report id being the last part of the report's ARN. A reader should look for that id under `path`
    and not rely on the rest.
    """
    if report.group.export_config.get("exportConfigType") != "S3":
        return True
    destination = report.group.export_config["s3Destination"]
    report_id = report.arn.rpartition(":")[2]
    folder = "/".join(part for part in (destination.get("path", "").strip("/"), report.group.name) if part)
    try:
        if destination.get("packaging") == "ZIP":
            content = io.BytesIO()
            with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, path in files:
                    with open_regular(path) as stream:
                        archive.writestr(name, stream.read())
            s3.put_object(
                Bucket=destination["bucket"], Key=f"{folder}/{report_id}.zip", Body=content.getvalue()
            )
        else:
            for name, path in files:
                with open_regular(path) as stream:
                    key = f"{folder}/{report_id}/{name}"
                    s3.put_object(Bucket=destination["bucket"], Key=key, Body=stream)
    except (ClientError, BotoCoreError, OSError) as error:
        log(f"Report {report.group.name}: the export to s3://{destination['bucket']} failed: {error}")
        return False
    log(
        f"Exported {len(files)} raw files of report {report.group.name} to s3://{destination['bucket']}/{folder}"
    )
    return True
