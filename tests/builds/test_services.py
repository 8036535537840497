"""Builds: registered once, collected in one piece."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone

from apps.aws.codebuild import CoverageSummary
from apps.aws.errors import AwsError
from apps.builds.coverage import unpack
from apps.builds.models import Build, Report, TestCase, TestResult
from apps.builds.parsers.file_coverage import FileCoverage
from apps.builds.services import collect_build, register_build
from apps.errors import DomainError, Forbidden, Invalid, NotFound, Unavailable
from apps.leases import Lease, LeaseLost, take
from apps.ledger.models import Entry
from apps.ledger.services import first_broken
from tests.builds.fake import AWAY, DENIED, FakeAws, build_info, install, junit, report_info
from tests.factories import make_build, make_member, make_service, make_user
from tests.races import all_at_once

pytestmark = pytest.mark.django_db
COMMIT = "a" * 40


@pytest.fixture
def aws(monkeypatch) -> FakeAws:
    return install(monkeypatch)


@pytest.fixture
def service():
    return make_service("web", bucket="bucket")


def register(service, codebuild_id="web:1", commit="", user=None):
    user = user or make_member(service, "developer")
    return register_build(service=service, codebuild_id=codebuild_id, commit=commit, requested_by=user)


def lease_of(build: Build) -> Lease:
    lease = take(Build.objects.filter(pk=build.pk), owner="me", duration=timedelta(seconds=30))
    assert lease
    return lease


def collect(build: Build) -> Build:
    lease = lease_of(build)
    try:
        collect_build(build=build, lease=lease)
    finally:
        lease.release()
    build.refresh_from_db()
    return build


def running(service, **fields) -> Build:
    fields = {"codebuild_id": "web:1", "status": "IN_PROGRESS", "finished_at": None, **fields}
    return make_build(service, deviations=None, collected_at=None, **fields)


class TestRegister:
    def test_what_codebuild_says_is_written_and_recorded(self, aws, service):
        aws.add(build_info(status="IN_PROGRESS", complete=False, ended_at=None, exports={}))
        user = make_member(service, "operator")
        build, created = register(service, commit=COMMIT.upper(), user=user)
        assert created
        assert (build.service, build.commit, build.number) == (service, COMMIT, 7)
        assert (build.status, build.source_version, build.finished_at) == ("IN_PROGRESS", "v1", None)
        entry = Entry.objects.get()
        assert (entry.chain, entry.action, entry.actor) == ("web", "build.registered", user)
        assert entry.subject == f"build:{build.pk}"

    def test_again_it_is_the_same_build_and_codebuild_is_not_asked(self, aws, service):
        aws.add(build_info())
        first, _ = register(service, commit=COMMIT)
        assert register(service, commit=COMMIT) == (first, False)
        assert register(service) == (first, False)
        assert aws.asked == ["get_build"]
        assert Entry.objects.count() == 1

    def test_another_commit_for_the_same_build_is_refused(self, aws, service):
        aws.add(build_info())
        register(service, commit=COMMIT)
        with pytest.raises(DomainError, match="is registered with commit aaaa"):
            register(service, commit="b" * 40)

    def test_the_commit_that_codebuild_checked_out_counts(self, aws, service):
        aws.add(build_info(source_type="GITHUB", resolved_source_version=COMMIT))
        with pytest.raises(Invalid, match="is a build of commit aaaa"):
            register(service, commit="b" * 40)
        assert register(service)[0].commit == COMMIT

    @pytest.mark.parametrize(
        ("codebuild_id", "commit", "reason"),
        [
            ("web", "", "is no build id"),
            ("web:1; DROP", "", "is no build id"),
            ("", "", "is no build id"),
            ("other:1", "", "a build of the project other; web is built by web"),
            ("web:1", "abc123", "is no commit"),
        ],
    )
    def test_what_cannot_be_right_is_refused_without_asking(self, aws, service, codebuild_id, commit, reason):
        with pytest.raises(Invalid, match=reason):
            register(service, codebuild_id, commit)
        assert aws.asked == []

    def test_an_unknown_build_is_not_found(self, aws, service):
        with pytest.raises(NotFound, match="CodeBuild does not know web:1"):
            register(service)
        assert not Build.objects.exists()

    def test_codebuilds_word_on_the_project_counts(self, aws, service):
        aws.builds["web:1"] = build_info(project="other")
        with pytest.raises(Invalid, match="is a build of other"):
            register(service)

    @pytest.mark.parametrize(("error", "retry_after"), [(AWAY, 5), (DENIED, 60)])
    def test_codebuild_away_or_refusing_is_said_with_when_to_try_again(
        self, aws, service, error, retry_after
    ):
        aws.errors["get_build"] = error
        with pytest.raises(Unavailable, match="could not be asked") as caught:
            register(service)
        assert caught.value.retry_after == retry_after
        assert not Build.objects.exists()

    def test_it_takes_a_role(self, aws, service):
        aws.add(build_info())
        with pytest.raises(Forbidden):
            register(service, user=make_member(service, "viewer", "approver"))
        with pytest.raises(NotFound):
            register(service, user=make_user())
        assert aws.asked == []


class TestCollect:
    def test_a_running_build_is_looked_at_again(self, aws, service):
        aws.add(build_info(status="IN_PROGRESS", complete=False, ended_at=None))
        build = collect(running(service))
        assert (build.status, build.collected_at, build.number) == ("IN_PROGRESS", None, 7)
        assert aws.asked == ["get_build"]

    def test_evidence_is_written_in_one_piece(self, aws, service):
        aws.put("reports/web-unit/id-1/a.xml", junit(passed=3, failed=2, skipped=1))
        counts = {"SUCCEEDED": 3, "FAILED": 2, "SKIPPED": 1}
        aws.add(build_info(), report_info(total=6, status="FAILED", counts=counts))
        build = collect(running(service))
        assert (build.status, build.deviations, build.problem) == ("SUCCEEDED", [], "")
        assert build.collected_at
        assert build.exports["LOCKKEEPER_BUNDLE_VERSION"] == "1"
        report = build.reports.get()
        assert report.complete
        assert (report.name, report.passed, report.failed, report.skipped) == ("web-unit", 3, 2, 1)
        assert sorted(report.results.values_list("status", flat=True)) == ["FAILED", "FAILED", "SKIPPED"]
        assert report.files.get().key == "reports/web-unit/id-1/a.xml"
        assert TestCase.objects.filter(service=service).count() == 6
        entry = Entry.objects.get(action="build.collected")
        assert entry.data["reports"][0]["failed"] == 2
        assert first_broken(chain="web") is None

    def test_coverage_is_kept_by_file(self, aws, service):
        classes = "".join(
            f'<class filename="{name}.py"><lines><line number="1" hits="{hits}"/></lines></class>'
            for name, hits in (("a", 1), ("b", 0))
        )
        aws.put("reports/web-cov/id-1/a.xml", f"<coverage>{classes}</coverage>")
        summary = CoverageSummary(lines_covered=1, lines_total=2)
        aws.add(build_info(), report_info("web-cov", None, type="CODE_COVERAGE", coverage=summary))
        report = collect(running(service)).reports.get()
        assert (report.complete, report.problem, report.parsed) == (True, "", None)
        assert (report.lines_covered, report.lines_total, report.branches_total) == (1, 2, 0)
        files = unpack(report.covered_files.packed)
        assert files == [FileCoverage("a.py", 1, 1, 0, 0), FileCoverage("b.py", 0, 1, 0, 0)]
        told = Entry.objects.get(action="build.collected").data["reports"][0]
        assert (told["lines_covered"], told["lines_total"]) == (1, 2)

    def test_coverage_that_codebuild_counted_otherwise_is_kept_and_not_complete(self, aws, service):
        line = '<class filename="a.py"><lines><line number="1" hits="1"/></lines></class>'
        aws.put("reports/web-cov/id-1/a.xml", f"<coverage>{line}</coverage>")
        summary = CoverageSummary(lines_covered=7, lines_total=9)
        aws.add(build_info(), report_info("web-cov", None, type="CODE_COVERAGE", coverage=summary))
        report = collect(running(service)).reports.get()
        assert not report.complete
        assert "7 of 9 lines" in report.problem
        assert report.lines_total == 1

    def test_known_tests_are_not_written_again(self, aws, service):
        for number in (1, 2):
            report = report_info(total=2, arn=f"arn:aws:codebuild:eu:1:report/web-unit:id-{number}")
            aws.put(f"reports/web-unit/id-{number}/a.xml", junit(passed=1, failed=1))
            aws.add(build_info(f"web:{number}"), report)
            collect(running(service, codebuild_id=f"web:{number}"))
        assert TestCase.objects.count() == 2
        assert TestResult.objects.count() == 2

    def test_two_reports_of_one_group_have_names_of_their_own(self, aws, service):
        reports = [report_info(total=1, arn=f"arn:aws:codebuild:eu:1:report/web-unit:id-{n}") for n in (1, 2)]
        for number in (1, 2):
            aws.put(f"reports/web-unit/id-{number}/a.xml", junit(passed=1))
        aws.add(build_info(), *reports)
        build = collect(running(service))
        assert [report.name for report in build.reports.all()] == ["web-unit", "web-unit (2)"]

    def test_an_identity_that_is_another_tests_spoils_the_report(self, aws, service):
        aws.put("reports/web-unit/id-1/a.xml", junit(failed=1))
        aws.add(build_info(), report_info(total=1))
        collect(running(service))
        TestCase.objects.update(name="somebody else's")
        aws.add(build_info("web:2"), report_info(total=1, arn="arn:aws:codebuild:eu:1:report/web-unit:id-1"))
        report = collect(running(service, codebuild_id="web:2")).reports.get()
        assert "has the same identity" in report.problem
        assert (report.parsed, report.results.count()) == (None, 0)

    def test_late_evidence_is_waited_for_and_then_given_up(self, aws, service):
        recent = timezone.now() - timedelta(minutes=9)
        aws.add(build_info(ended_at=recent), report_info(total=3))
        build = collect(running(service))
        assert (build.status, build.collected_at, build.finished_at) == ("SUCCEEDED", None, recent)
        assert not Report.objects.exists()
        aws.builds["web:1"] = replace(aws.builds["web:1"], ended_at=recent - timedelta(minutes=2))
        build = collect(build)
        assert build.collected_at
        assert "no raw files" in build.reports.get().problem

    def test_late_evidence_that_comes_is_read(self, aws, service):
        aws.add(build_info(ended_at=timezone.now()), report_info(total=3, status="GENERATING"))
        build = collect(running(service))
        aws.add(build_info(ended_at=timezone.now()), report_info(total=3))
        aws.put("reports/web-unit/id-1/a.xml", junit(passed=3))
        assert collect(build).reports.get().complete

    def test_a_forgotten_report_is_a_problem(self, aws, service):
        info = aws.add(build_info(), report_info(total=3))
        aws.reports.clear()
        build = collect(running(service))
        assert build.collected_at
        assert build.problem == "CodeBuild does not know its report web-unit (any more)."
        assert info.report_arns

    def test_a_forgotten_build_is_given_up(self, aws, service):
        build = collect(running(service))
        assert (build.status, build.deviations) == ("FAULT", None)
        assert "does not know this build any more" in build.problem
        assert Entry.objects.get().action == "build.given_up"

    def test_a_project_that_is_gone_leaves_the_question_open(self, aws, service):
        aws.add(build_info())
        aws.projects.clear()
        build = collect(running(service))
        assert build.deviations is None
        assert "The project web is gone" in build.problem

    def test_a_good_build_must_export_its_bundle_and_a_bad_one_need_not(self, aws, service):
        aws.add(build_info(exports={"OTHER": "secret"}))
        build = collect(running(service))
        assert "It exported no LOCKKEEPER_BUNDLE_KEY" in build.problem
        assert build.exports == {}
        aws.add(build_info("web:2", status="FAILED", exports={}))
        assert collect(running(service, codebuild_id="web:2")).problem == ""

    @pytest.mark.parametrize("function", ["get_project", "get_reports", "count_test_cases", "download"])
    def test_aws_away_changes_nothing_but_how_far_the_build_is(self, aws, service, function):
        aws.put("reports/web-unit/id-1/a.xml", junit(passed=3))
        aws.add(build_info(), report_info(total=3))
        aws.errors[function] = AWAY
        build = running(service)
        with pytest.raises(AwsError):
            collect(build)
        build.refresh_from_db()
        assert (build.status, build.collected_at, build.problem) == ("SUCCEEDED", None, "")
        assert not Report.objects.exists()
        aws.errors.clear()
        assert collect(build).reports.get().complete

    def test_a_refusal_is_retried_for_a_while_and_then_written_down(self, aws, service):
        aws.put("reports/web-unit/id-1/a.xml", junit(passed=3))
        aws.add(build_info(ended_at=timezone.now()), report_info(total=3))
        aws.errors["list_objects"] = DENIED
        build = running(service)
        with pytest.raises(AwsError):
            collect(build)
        aws.builds["web:1"] = replace(aws.builds["web:1"], ended_at=timezone.now() - timedelta(minutes=11))
        build = collect(build)
        assert (build.status, build.problem) == (
            "SUCCEEDED",
            "Its evidence cannot be read: S3: AccessDenied: no",
        )

    def test_a_lost_lease_writes_nothing(self, aws, service):
        aws.put("reports/web-unit/id-1/a.xml", junit(passed=3))
        aws.add(build_info(), report_info(total=3))
        build = running(service)
        aws.meanwhile = lambda: Build.objects.update(lease_fence=99)
        with pytest.raises(LeaseLost):
            collect(build)
        build.refresh_from_db()
        assert build.collected_at is None
        assert not Report.objects.exists()
        assert not TestCase.objects.exists()
        assert not Entry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_requests_at_once_register_one_build(aws):
    service = make_service("web", bucket="bucket")
    user = make_member(service, "developer")
    aws.add(build_info())
    results = all_at_once(*[partial(register, service, commit=COMMIT, user=user)] * 2)
    assert sorted(created for _, created in results) == [False, True]
    assert len({build.pk for build, _ in results}) == 1
    assert Entry.objects.count() == 1
