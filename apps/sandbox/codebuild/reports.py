"""Report groups and reports: test cases read from a build's files, and the raw files exported to S3."""

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

from apps.sandbox.codebuild.files import open_regular
from apps.sandbox.codebuild.junit import Case, ReportFileError, parse_junit
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
    _failed: list[Case] = field(default_factory=list)
    _others: list[Case] = field(default_factory=list)

    def add(self, case: Case) -> None:
        """Count a case, and keep it if there is room: CodeBuild's docs name only FAILED as preferred."""
        self.counts[case.status] += 1
        self.nanoseconds += case.nanoseconds
        kept = self._failed if case.status == "FAILED" else self._others
        if len(kept) < MAX_CASES:
            kept.append(case)

    @property
    def cases(self) -> list[Case]:
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
        }

    def describe_case(self, case: Case) -> dict[str, Any]:
        """Return what DescribeTestCases tells of one case."""
        return {
            "reportArn": self.arn,
            "testRawDataPath": case.path,
            "prefix": case.prefix,
            "name": case.name,
            "status": case.status,
            "durationInNanoSeconds": case.nanoseconds,
            "message": case.message or None,
            "expired": self.expired,
            "testSuiteName": case.suite or None,
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
    """Export a report's raw files and read its test cases; leaves it SUCCEEDED, FAILED or INCOMPLETE.

    Formats other than JUnit XML are exported and end INCOMPLETE: this sandbox does not read them yet. So
    does a report with a file that cannot be read; the reason is in the build's log.
    """
    complete = export_raw(report, files, s3, log)
    if spec.file_format != "JUNITXML":
        log(f"Report {report.group.name}: the sandbox does not read {spec.file_format} yet")
        complete = False
    else:
        for name, path in files:
            complete &= _read_junit(report, name, path, log)
    if not complete:
        report.status = "INCOMPLETE"
    else:
        report.status = "FAILED" if report.counts["FAILED"] or report.counts["ERROR"] else "SUCCEEDED"
    log(f"Report {report.arn}: {report.status}, {report.counts.total()} test cases")


def _read_junit(report: Report, name: str, path: Path, log: Callable[[str], None]) -> bool:
    def add(case: Case) -> None:
        case.path = name
        report.add(case)

    try:
        with open_regular(path) as stream:
            parse_junit(stream, add)
    except (ReportFileError, OSError) as error:
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
