"""Builds that really ran in the embedded AWS, registered and read to the end."""

import io
import time
import uuid
import zipfile
from collections.abc import Callable
from datetime import timedelta

import pytest

from apps.builds.coverage import compare_coverage, coverage_report
from apps.builds.models import Build, TestCase
from apps.builds.services import collect_build, register_build
from apps.catalog.models import Service
from apps.errors import Invalid, NotFound
from apps.leases import take
from tests.factories import make_member, make_service
from tests.sandbox.conftest import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.django_db]

BUILDSPEC = """
version: 0.2
env:
  exported-variables: [LOCKKEEPER_BUNDLE_KEY, LOCKKEEPER_BUNDLE_VERSION, LOCKKEEPER_BUNDLE_SHA256]
phases:
  build:
    commands:
      - export LOCKKEEPER_BUNDLE_KEY=releases/x/0.tar LOCKKEEPER_BUNDLE_VERSION=1 LOCKKEEPER_BUNDLE_SHA256=0
reports:
  unit:
    files: ["*.xml"]
"""


def junit(count: int, failing: int = 0) -> str:
    cases = "".join(
        f'<testcase classname="tests.test_a" name="test_{number}" time="0.01">'
        + ('<failure message="assert 1 == 2">line 5</failure>' if number < failing else "")
        + "</testcase>"
        for number in range(count)
    )
    return f'<testsuites><testsuite name="pytest" tests="{count}">{cases}</testsuite></testsuites>'


class Place:
    """A service with its project, bucket and report group."""

    def __init__(self, aws: Sandbox, bucket: str, *, packaging: str = "NONE", export: bool = True) -> None:
        self.codebuild, self.s3 = aws.client("codebuild"), aws.client("s3")
        self.bucket = bucket
        self.project = f"project-{uuid.uuid4().hex[:12]}"
        self.service: Service = make_service(bucket=bucket, codebuild_project=self.project)
        self.user = make_member(self.service, "developer")
        for name, kind in (("unit", "TEST"), ("coverage", "CODE_COVERAGE")) if export else ():
            self.codebuild.create_report_group(
                name=f"{self.project}-{name}",
                type=kind,
                exportConfig={
                    "exportConfigType": "S3",
                    "s3Destination": {"bucket": bucket, "path": "reports", "packaging": packaging},
                },
            )
        self.codebuild.create_project(
            name=self.project,
            source={"type": "S3", "location": f"{bucket}/source/app.zip"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": "aws/codebuild/standard:7.0",
                "computeType": "BUILD_GENERAL1_SMALL",
                "environmentVariables": [{"name": "LOCKKEEPER_BUCKET", "value": bucket}],
            },
            serviceRole="arn:aws:iam::123456789012:role/build",
        )

    def start(self, files: dict[str, str], **overrides: object) -> str:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as zipped:
            for name, text in {"buildspec.yml": BUILDSPEC, **files}.items():
                zipped.writestr(name, text)
        version = self.s3.put_object(Bucket=self.bucket, Key="source/app.zip", Body=archive.getvalue())[
            "VersionId"
        ]
        started = self.codebuild.start_build(projectName=self.project, sourceVersion=version, **overrides)
        identifier: str = started["build"]["id"]
        return identifier

    def collect(self, codebuild_id: str) -> Build:
        build, _ = register_build(service=self.service, codebuild_id=codebuild_id, requested_by=self.user)
        deadline = time.monotonic() + 60
        while build.collected_at is None:
            assert time.monotonic() < deadline
            lease = take(Build.objects.filter(pk=build.pk), owner="me", duration=timedelta(seconds=30))
            assert lease is not None
            collect_build(build=build, lease=lease)
            lease.release()
            build.refresh_from_db()
            time.sleep(0.1)
        return build


@pytest.fixture
def place(aws: Sandbox, versioned_bucket: str) -> Callable[..., Place]:
    return lambda **options: Place(aws, versioned_bucket, **options)


def test_a_build_is_read_to_its_last_case(place):
    here = place()
    build = here.collect(here.start({"a.xml": junit(700, failing=3), "b.xml": junit(2)}))
    assert build.status == "SUCCEEDED"
    assert build.deviations == []
    assert build.problem == ""
    assert build.exports["LOCKKEEPER_BUNDLE_VERSION"] == "1"
    assert build.started_at
    assert build.finished_at
    report = build.reports.get()
    assert report.name == f"{here.project}-unit"
    assert report.problem == ""
    assert report.complete
    assert (report.declared, report.returned, report.parsed) == (702, 500, 702)
    assert (report.passed, report.failed, report.truncated) == (699, 3, True)
    assert [result.message for result in report.results.all()] == ["assert 1 == 2\nline 5"] * 3
    assert {result.case.name for result in report.results.all()} == {"test_0", "test_1", "test_2"}
    assert [file.key.rpartition("/")[2] for file in report.files.all()] == ["a.xml", "b.xml"]
    assert all(file.version and file.sha256 for file in report.files.all())
    # The second file repeats two names of the first, so they have ordinals of their own.
    assert TestCase.objects.filter(service=here.service).count() == 702
    assert TestCase.objects.filter(service=here.service, ordinal=1).count() == 2


def test_a_zipped_export_is_read_too(place):
    here = place(packaging="ZIP")
    report = here.collect(here.start({"a.xml": junit(5, failing=1)})).reports.get()
    assert (report.problem, report.parsed, report.failed) == ("", 5, 1)


def test_coverage_is_read_by_file_and_agrees_with_codebuild(place):
    here = place()
    classes = "".join(
        f'<class filename="{name}.py"><lines><line number="1" hits="1"/>'
        f'<line number="2" hits="{hits}"/></lines></class>'
        for name, hits in (("a", 1), ("b", 0))
    )
    # As many tools have it, the totals that it declares are of something else.
    text = f'<coverage lines-valid="99" lines-covered="9">{classes}</coverage>'
    spec = BUILDSPEC + '  coverage:\n    files: ["coverage.xml"]\n    file-format: COBERTURAXML\n'
    spec = spec.replace('["*.xml"]', '["a.xml"]')
    build = here.collect(here.start({"a.xml": junit(5), "coverage.xml": text, "buildspec.yml": spec}))
    report = build.reports.get(type="CODE_COVERAGE")
    assert (report.problem, report.complete, report.status) == ("", True, "SUCCEEDED")
    assert (report.lines_covered, report.lines_total) == (3, 4)
    files = compare_coverage(coverage_report(build)).files
    assert [(file.path, file.now.lines_covered) for file in files] == [("a.py", 2), ("b.py", 1)]
    assert build.reports.get(type="TEST").complete


def test_without_raw_files_a_report_is_not_complete(place):
    here = place(export=False)
    report = here.collect(here.start({"a.xml": junit(5)})).reports.get()
    assert not report.complete
    assert "exports no raw files" in report.problem
    assert (report.declared, report.returned, report.parsed) == (5, 5, None)


def test_a_report_that_codebuild_could_not_read_is_not_complete(place):
    here = place()
    report = here.collect(here.start({"a.xml": junit(5), "b.xml": "<testsuite><testcase"})).reports.get()
    assert report.status == "INCOMPLETE"
    assert "INCOMPLETE" in report.problem


def test_overrides_are_found(place):
    here = place()
    build = here.collect(
        here.start(
            {"a.xml": junit(5)},
            buildspecOverride=BUILDSPEC,
            imageOverride="somebody/image:1",
            serviceRoleOverride="arn:aws:iam::123456789012:role/other",
            environmentVariablesOverride=[
                {"name": "SKIP_TESTS", "value": "secret"},
                {"name": "LOCKKEEPER_BUCKET", "value": "elsewhere"},
            ],
        )
    )
    assert build.status == "SUCCEEDED"
    assert [sentence.partition(" was ")[0] for sentence in build.deviations] == [
        "its buildspec",
        "its image",
        "its service role",
        "its LOCKKEEPER_BUCKET differed from the project's",
        "its environment had SKIP_TESTS, which the project does not define",
    ]
    assert "secret" not in " ".join(build.deviations)


def test_a_failed_build_is_read_too(place):
    here = place()
    broken = BUILDSPEC.replace("commands:", "commands:\n      - exit 3", 1)
    build = here.collect(here.start({"a.xml": junit(5), "buildspec.yml": broken}))
    assert build.status == "FAILED"
    assert build.problem == ""  # nobody expects a bundle of it


def test_a_build_that_codebuild_does_not_know_is_not_registered(place):
    here = place()
    with pytest.raises(NotFound, match="does not know"):
        register_build(
            service=here.service, codebuild_id=f"{here.project}:{uuid.uuid4()}", requested_by=here.user
        )
    with pytest.raises(Invalid, match="is built by"):
        register_build(service=here.service, codebuild_id=f"other:{uuid.uuid4()}", requested_by=here.user)
    assert not Build.objects.exists()
