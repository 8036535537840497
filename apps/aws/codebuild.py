"""CodeBuild: builds, projects, reports and their test cases."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from apps.aws.errors import translated
from apps.aws.session import client, console_region

if TYPE_CHECKING:
    from mypy_boto3_codebuild import CodeBuildClient
    from mypy_boto3_codebuild.type_defs import BuildTypeDef, ProjectTypeDef, ReportTypeDef

IN_PROGRESS = "IN_PROGRESS"
# The most test cases that CodeBuild keeps of a report.
# https://docs.aws.amazon.com/codebuild/latest/userguide/test-report.html
CASE_LIMIT = 500
BATCH = 100  # the most that BatchGetReports takes


@dataclass(frozen=True)
class Variable:
    """An environment variable; of a secret or a parameter, ``value`` is its name and not what it holds."""

    value: str
    type: str


@dataclass(frozen=True)
class Definition:
    """What decides how a build runs: of a project as it is defined, of a build as it ran.

    ``settings`` maps words for people to plain values, the same words for both, so that they can be compared.
    """

    settings: dict[str, str]
    variables: dict[str, Variable]


@dataclass(frozen=True)
class BuildInfo:
    """A build as BatchGetBuilds tells it."""

    id: str
    arn: str
    project: str
    number: int | None
    status: str
    complete: bool
    source_type: str
    source_version: str
    resolved_source_version: str
    started_at: datetime | None
    ended_at: datetime | None
    log_url: str
    exports: dict[str, str]
    report_arns: tuple[str, ...]
    debug_session: bool
    definition: Definition


@dataclass(frozen=True)
class ProjectInfo:
    """A project as BatchGetProjects tells it."""

    name: str
    modified_at: datetime | None
    definition: Definition


@dataclass(frozen=True)
class Export:
    """Where CodeBuild puts a report's raw files."""

    bucket: str
    path: str
    zipped: bool


@dataclass(frozen=True)
class CoverageSummary:
    """What CodeBuild counted in a coverage report."""

    lines_covered: int
    lines_total: int


@dataclass(frozen=True)
class ReportInfo:
    """A report as BatchGetReports tells it."""

    arn: str
    group: str  # the report group's name
    type: str
    status: str
    build_arn: str
    truncated: bool
    total: int | None
    counts: dict[str, int]  # by CodeBuild's status of a case
    export: Export | None
    coverage: CoverageSummary | None = None  # of a coverage report that is finished

    @property
    def id(self) -> str:
        """The report's own id: the last part of its ARN."""
        return self.arn.rpartition(":")[2]


def get_build(
    build_id: str, *, connect_timeout: float = 2.0, timeout: float = 10.0, attempts: int = 2
) -> BuildInfo | None:
    """Describe a build by its id (``project:uuid``); None when CodeBuild does not know it.

    CodeBuild keeps builds for a year. Timeouts are in seconds and for each attempt.
    """
    codebuild = _codebuild(connect_timeout=connect_timeout, read_timeout=timeout, attempts=attempts)
    with translated("CodeBuild BatchGetBuilds"):
        answer = codebuild.batch_get_builds(ids=[build_id])
    return _build(answer["builds"][0]) if answer["builds"] else None


def get_project(name: str) -> ProjectInfo | None:
    """Describe a project; None when CodeBuild does not know it."""
    with translated("CodeBuild BatchGetProjects"):
        answer = _codebuild().batch_get_projects(names=[name])
    if not answer["projects"]:
        return None
    project = answer["projects"][0]
    return ProjectInfo(
        name=project["name"], modified_at=project.get("lastModified"), definition=_definition(project)
    )


def get_reports(arns: tuple[str, ...]) -> list[ReportInfo]:
    """Describe reports by ARN; those that CodeBuild does not know (any more) are left out."""
    found: list[ReportInfo] = []
    for start in range(0, len(arns), BATCH):
        with translated("CodeBuild BatchGetReports"):
            answer = _codebuild().batch_get_reports(reportArns=list(arns[start : start + BATCH]))
        found += [_report(report) for report in answer.get("reports", [])]
    return found


def count_test_cases(report_arn: str) -> int:
    """How many test cases DescribeTestCases gives, to its last page."""
    with translated("CodeBuild DescribeTestCases"):
        pages = _codebuild().get_paginator("describe_test_cases").paginate(reportArn=report_arn)
        return sum(len(page.get("testCases", [])) for page in pages)


def _build(build: "BuildTypeDef") -> BuildInfo:
    return BuildInfo(
        id=build["id"],
        arn=build.get("arn", ""),
        project=build.get("projectName", ""),
        number=build.get("buildNumber"),
        status=build.get("buildStatus", IN_PROGRESS),
        complete=build.get("buildComplete", False),
        source_type=build.get("source", {}).get("type", ""),
        source_version=build.get("sourceVersion", ""),
        resolved_source_version=build.get("resolvedSourceVersion", ""),
        started_at=build.get("startTime"),
        ended_at=build.get("endTime"),
        log_url=build.get("logs", {}).get("deepLink", ""),
        exports={
            variable.get("name", ""): variable.get("value", "")
            for variable in build.get("exportedEnvironmentVariables", [])
        },
        report_arns=tuple(build.get("reportArns", [])),
        debug_session=build.get("debugSession", {}).get("sessionEnabled", False),
        definition=_definition(build),
    )


def _definition(of: "BuildTypeDef | ProjectTypeDef") -> Definition:
    """What StartBuild can override and a build's outcome can depend on.

    https://docs.aws.amazon.com/codebuild/latest/APIReference/API_StartBuild.html. Left out is what cannot
    change what the commands see: timeouts, logs, tags, how much CPU, where artifacts go.
    """
    source: Any = of.get("source", {})
    environment: Any = of.get("environment", {})
    settings = {
        **_source("source", source),
        "environment type": environment.get("type", ""),
        "image": environment.get("image", ""),
        "image credentials": environment.get("imagePullCredentialsType", ""),
        "registry credential": environment.get("registryCredential", {}).get("credential", ""),
        "privileged mode": _word(environment.get("privilegedMode", False)),
        "certificate": environment.get("certificate", ""),
        "host kernel": environment.get("hostKernel", ""),
        "fleet": environment.get("fleet", {}).get("fleetArn", ""),
        "service role": of.get("serviceRole", ""),
        "VPC": of.get("vpcConfig", {}).get("vpcId", ""),
        "cache": _cache(of.get("cache", {})),
    }
    for secondary in of.get("secondarySources", []):
        settings |= _source(f"secondary source {secondary.get('sourceIdentifier', '')}", secondary)
    return Definition(
        settings=settings,
        variables={
            variable["name"]: Variable(
                value=variable.get("value", ""), type=variable.get("type", "PLAINTEXT")
            )
            for variable in environment.get("environmentVariables", [])
        },
    )


def _source(name: str, source: Any) -> dict[str, str]:
    return {
        f"{name} type": source.get("type", ""),
        f"{name} location": source.get("location", ""),
        f"{name} TLS check": _word(not source.get("insecureSsl", False)),
        "buildspec" if name == "source" else f"{name} buildspec": source.get("buildspec", ""),
    }


def _cache(cache: Any) -> str:
    kind = cache.get("type", "NO_CACHE")
    return f"S3 {cache.get('location', '')}" if kind == "S3" else str(kind)


def _word(on: bool) -> str:
    return "on" if on else "off"


def _report(report: "ReportTypeDef") -> ReportInfo:
    summary = report.get("testSummary")
    coverage = report.get("codeCoverageSummary")
    config = report.get("exportConfig", {})
    destination = config.get("s3Destination", {})
    group_arn = report.get("reportGroupArn", "")
    return ReportInfo(
        arn=report["arn"],
        # A report's own name is its group's today; the ARN is what says so.
        group=group_arn.partition("report-group/")[2] or report.get("name", ""),
        type=report.get("type", ""),
        status=report.get("status", ""),
        build_arn=report.get("executionId", ""),
        truncated=report.get("truncated", False),
        total=summary["total"] if summary else None,
        counts=dict(summary["statusCounts"]) if summary else {},
        export=Export(
            bucket=destination.get("bucket", ""),
            path=destination.get("path", "").strip("/"),
            zipped=destination.get("packaging") == "ZIP",
        )
        if config.get("exportConfigType") == "S3"
        else None,
        coverage=CoverageSummary(
            lines_covered=coverage.get("linesCovered", 0),
            lines_total=coverage.get("linesCovered", 0) + coverage.get("linesMissed", 0),
        )
        if coverage
        else None,
    )


def _codebuild(
    *, connect_timeout: float = 2.0, read_timeout: float = 10.0, attempts: int = 2
) -> "CodeBuildClient":
    codebuild: CodeBuildClient = client(
        "codebuild", connect_timeout=connect_timeout, read_timeout=read_timeout, attempts=attempts
    )
    return codebuild


def console_url(build_id: str) -> str:
    """The page of a build in AWS's console; empty where it has none, as in an embedded AWS."""
    region = console_region("codebuild")
    if not region:
        return ""
    project = quote(build_id.partition(":")[0], safe="")
    build = quote(build_id, safe="")
    return (
        f"https://{region}.console.aws.amazon.com/codesuite/codebuild/projects/{project}/build/{build}"
        f"/?region={region}"
    )
