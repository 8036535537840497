"""CodeBuild and S3 in memory, in place of the functions of apps.aws that builds and releases call."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import IO

import pytest

from apps.aws import codebuild, s3
from apps.aws.codebuild import BuildInfo, Definition, Export, ProjectInfo, ReportInfo
from apps.aws.errors import AwsError
from apps.aws.s3 import Downloaded, ObjectInfo

ENDED = datetime(2026, 1, 1, 12, tzinfo=UTC)
AWAY = AwsError("CodeBuild: AWS did not answer (timeout)", retryable=True, code="ReadTimeoutError")
DENIED = AwsError("S3: AccessDenied: no", retryable=False, code="AccessDenied")
GROUP_ARN = "arn:aws:codebuild:eu-central-1:123456789012:report"
DEFINED = Definition(settings={"image": "standard:7.0"}, variables={})


def build_info(codebuild_id: str = "web:1", **fields: object) -> BuildInfo:
    """A build that has ended well."""
    info = BuildInfo(
        id=codebuild_id,
        arn=f"arn:aws:codebuild:eu-central-1:123456789012:build/{codebuild_id}",
        project=codebuild_id.partition(":")[0],
        number=7,
        status="SUCCEEDED",
        complete=True,
        source_type="S3",
        source_version="v1",
        resolved_source_version="v1",
        started_at=ENDED - timedelta(minutes=1),
        ended_at=ENDED,
        log_url="https://example.org/log",
        exports={
            "LOCKKEEPER_BUNDLE_KEY": "releases/web/0.tar",
            "LOCKKEEPER_BUNDLE_VERSION": "1",
            "LOCKKEEPER_BUNDLE_SHA256": "0",
        },
        report_arns=(),
        debug_session=False,
        definition=DEFINED,
    )
    return replace(info, **fields)  # type: ignore[arg-type]  # a test names the fields


def report_info(group: str = "web-unit", total: int | None = 0, **fields: object) -> ReportInfo:
    """A report that exports its raw files to s3://bucket/reports."""
    info = ReportInfo(
        arn=f"{GROUP_ARN}/{group}:id-1",
        group=group,
        type="TEST",
        status="SUCCEEDED",
        build_arn="",
        truncated=False,
        total=total,
        counts={"SUCCEEDED": total or 0},
        export=Export(bucket="bucket", path="reports", zipped=False),
    )
    return replace(info, **fields)  # type: ignore[arg-type]  # a test names the fields


@dataclass
class FakeAws:
    """What AWS knows; ``errors`` are raised, by the name of the function, as long as they are there."""

    builds: dict[str, BuildInfo] = field(default_factory=dict)
    projects: dict[str, ProjectInfo] = field(default_factory=dict)
    reports: dict[str, ReportInfo] = field(default_factory=dict)
    returned: dict[str, int] = field(default_factory=dict)
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    errors: dict[str, AwsError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    etags: dict[str, str] = field(default_factory=dict)  # by key, where not the MD5
    head_version: str = ""  # what HeadObject gives, where not the version that was asked for
    meanwhile: Callable[[], object] = lambda: None

    def add(self, info: BuildInfo, *reports: ReportInfo, returned: int | None = None) -> BuildInfo:
        """A build with its project and its reports."""
        info = replace(info, report_arns=tuple(report.arn for report in reports))
        self.builds[info.id] = info
        self.projects[info.project] = ProjectInfo(info.project, None, DEFINED)
        for report in reports:
            self.reports[report.arn] = report
            self.returned[report.arn] = report.total or 0 if returned is None else returned
        return info

    def put(self, key: str, body: bytes | str, bucket: str = "bucket") -> None:
        self.objects[bucket, key] = body.encode() if isinstance(body, str) else body

    def _called(self, name: str) -> None:
        self.asked.append(name)
        if name in self.errors:
            raise self.errors[name]

    def get_build(self, build_id: str, **limits: float) -> BuildInfo | None:
        self._called("get_build")
        return self.builds.get(build_id)

    def get_project(self, name: str) -> ProjectInfo | None:
        self._called("get_project")
        return self.projects.get(name)

    def get_reports(self, arns: tuple[str, ...]) -> list[ReportInfo]:
        self._called("get_reports")
        return [self.reports[arn] for arn in arns if arn in self.reports]

    def count_test_cases(self, report_arn: str) -> int:
        self._called("count_test_cases")
        return self.returned[report_arn]

    def list_objects(self, *, bucket: str, prefix: str) -> list[ObjectInfo]:
        self._called("list_objects")
        keys = sorted(key for place, key in self.objects if place == bucket and key.startswith(prefix))
        return [self._describe(bucket, key) for key in keys]

    def head(self, *, bucket: str, key: str, version: str | None = None) -> ObjectInfo:
        self._called("head")
        if (bucket, key) not in self.objects:
            raise AwsError("S3 HeadObject: 404: Not Found", retryable=False, code="404")
        return self._describe(bucket, key, self.head_version or version or "1")

    def put_if_absent(self, *, bucket: str, key: str, body: IO[bytes], sha256: str) -> ObjectInfo:
        self._called("put_if_absent")
        self.meanwhile()
        if (bucket, key) in self.objects:
            raise AwsError("S3 PutObject: 412", retryable=False, code="PreconditionFailed")
        body.seek(0)
        self.objects[bucket, key] = body.read()
        assert hashlib.sha256(self.objects[bucket, key]).hexdigest() == sha256
        return self._describe(bucket, key, "1")

    def download(
        self,
        *,
        bucket: str,
        key: str,
        into: IO[bytes],
        limit: int,
        version: str | None = None,
        tick: Callable[[], object] = lambda: None,
    ) -> Downloaded:
        self._called("download")
        self.meanwhile()
        body = self.objects[bucket, key]
        if len(body) > limit:
            raise s3.TooLarge(bucket, key, len(body), limit)
        into.write(body)
        tick()
        info = self._describe(bucket, key, version or "1")
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return Downloaded(
            size=len(body),
            etag=info.etag,
            version=info.version,
            sha256=hashlib.sha256(body).hexdigest(),
            md5=md5,
        )

    def _describe(self, bucket: str, key: str, version: str = "") -> ObjectInfo:
        body = self.objects[bucket, key]
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return ObjectInfo(
            bucket=bucket,
            key=key,
            size=len(body),
            etag=self.etags.get(key, md5),
            version=version,
            sha256=None,
            etag_is_md5=True,
        )


def install(monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    """Put a FakeAws in the place of AWS for one test."""
    fake = FakeAws()
    for name in ("get_build", "get_project", "get_reports", "count_test_cases"):
        monkeypatch.setattr(codebuild, name, getattr(fake, name))
    for name in ("list_objects", "head", "download", "put_if_absent"):
        monkeypatch.setattr(s3, name, getattr(fake, name))
    return fake


def junit(passed: int = 0, failed: int = 0, skipped: int = 0, name: str = "test") -> str:
    """JUnit XML with so many cases, named apart."""
    children = [""] * passed + ['<failure message="no"/>'] * failed + ["<skipped/>"] * skipped
    cases = "".join(
        f'<testcase classname="c" name="{name}_{number}" time="0.001">{child}</testcase>'
        for number, child in enumerate(children)
    )
    return f'<testsuite name="s">{cases}</testsuite>'
