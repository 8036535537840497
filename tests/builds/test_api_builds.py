"""Builds at the REST API."""

from unittest.mock import Mock, patch

from django.test import TestCase

from apps.aws import codebuild
from apps.aws.codebuild import BuildInfo, Definition
from apps.aws.errors import AwsError
from apps.builds.models import Build
from apps.ledger.models import Entry
from apps.releases.models import Release
from tests.clients import ApiClient
from tests.factories import (
    make_build,
    make_member,
    make_release,
    make_report,
    make_result,
    make_service,
    make_user,
)


def running_build(codebuild_id: str) -> BuildInfo:
    """What CodeBuild says of a build that has just been started from a source in S3."""
    return BuildInfo(
        id=codebuild_id,
        arn=f"arn:aws:codebuild:eu-central-1:123456789012:build/{codebuild_id}",
        project=codebuild_id.partition(":")[0],
        number=1,
        status="IN_PROGRESS",
        complete=False,
        source_type="S3",
        source_version="v1",
        resolved_source_version="",
        started_at=None,
        ended_at=None,
        log_url="",
        exports={},
        report_arns=(),
        debug_session=False,
        definition=Mock(spec=Definition),
    )


class BuildReadingTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.build = make_build(cls.service)
        cls.report = make_report(cls.build, failed=2)
        cls.results = [make_result(cls.report), make_result(cls.report, message="AssertionError")]
        cls.release = make_release(build=cls.build)
        cls.running = make_build(
            cls.service, status="IN_PROGRESS", finished_at=None, collected_at=None, deviations=None
        )
        cls.hidden = make_build()
        cls.viewer = make_member(cls.service, "viewer")

    def setUp(self) -> None:
        self.client = ApiClient(self.viewer)

    def test_one_shows_its_reports_and_its_release(self) -> None:
        found = self.client.get(f"/api/v1/builds/{self.build.pk}/").json()
        assert found["release"]["digest"] == self.release.digest
        (report,) = found["reports"]
        assert (report["name"], report["passed"], report["failed"]) == ("unit", 10, 2)
        assert report["complete"]

    def test_what_did_not_pass_has_a_list_of_its_own(self) -> None:
        path = f"/api/v1/builds/{self.build.pk}/results/"
        found = self.client.get(path, {"report": "unit", "status": "FAILED"}).json()["results"]
        assert [row["message"] for row in found] == ["AssertionError", ""]
        assert self.client.get(path, {"status": "ERROR"}).json()["results"] == []
        # 1: token with user  2: results with report and case
        with self.assertNumQueries(2):
            self.client.get(path)

    def test_what_hangs_below_a_build_that_one_does_not_see_is_a_404(self) -> None:
        stranger = ApiClient(make_user())
        for below in ("results", "reports"):
            assert self.client.get(f"/api/v1/builds/{self.running.pk}/{below}/").json()["results"] == []
            for client, build in (
                (stranger, self.build.pk),
                (stranger, self.running.pk),
                (self.client, 2**70),
            ):
                answer = client.get(f"/api/v1/builds/{build}/{below}/")
                assert (answer.status_code, answer.json()["detail"]) == (404, f"There is no build {build}.")

    def test_one_that_runs_says_when_to_ask_again(self) -> None:
        running = self.client.get(f"/api/v1/builds/{self.running.pk}/")
        assert (running["Retry-After"], running.json()["final"]) == ("3", False)
        ended = self.client.get(f"/api/v1/builds/{self.build.pk}/")
        assert "Retry-After" not in ended
        assert ended.json()["final"] is True

    def test_one_whose_bundle_has_not_been_read_is_not_final(self) -> None:
        build = make_build(self.service, exports={"LOCKKEEPER_BUNDLE_SHA256": "a" * 64})
        path = f"/api/v1/builds/{build.pk}/"
        assert (self.client.get(path).json()["final"], self.client.get(path).json()["release"]) == (
            False,
            None,
        )
        Build.objects.filter(pk=build.pk).update(problem="The bundle is not what it says.")
        assert self.client.get(path).json()["final"] is True

    def test_the_same_bundle_built_again_is_the_release_of_both_builds(self) -> None:
        again = make_build(self.service, exports={"LOCKKEEPER_BUNDLE_SHA256": self.release.digest})
        path = f"/api/v1/builds/{again.pk}/"
        assert self.client.get(path).json()["release"] is None, "nobody has compared it yet"
        Release.objects.filter(pk=self.release.pk).update(build=again)
        for build in (self.build, again):
            assert self.client.get(f"/api/v1/builds/{build.pk}/").json()["release"]["id"] == self.release.pk

    def test_a_build_without_a_bundle_is_final(self) -> None:
        build = make_build(self.service, status="FAILED")
        found = self.client.get(f"/api/v1/builds/{build.pk}/").json()
        assert (found["final"], found["release"]) == (True, None)

    def test_filters(self) -> None:
        def found(**query: object) -> list[int]:
            return [row["id"] for row in self.client.get("/api/v1/builds/", query).json()["results"]]

        assert found() == [self.running.pk, self.build.pk]
        assert found(status="SUCCEEDED") == [self.build.pk]
        assert found(codebuild_id=self.build.codebuild_id) == [self.build.pk]
        assert found(commit=self.running.commit, service="web") == [self.running.pk]

    def test_a_stranger_sees_nothing(self) -> None:
        assert self.client.get(f"/api/v1/builds/{self.hidden.pk}/").status_code == 404
        assert self.client.get(f"/api/v1/builds/{self.hidden.pk}/results/").status_code == 404
        assert ApiClient(make_user()).get("/api/v1/builds/").json()["results"] == []

    def test_the_list_does_not_query_per_row(self) -> None:
        # 1: token with user  2: builds with service, requester and release, without manifests
        with self.assertNumQueries(2) as queries:
            self.client.get("/api/v1/builds/")
        assert "manifest" not in queries[1]["sql"]


class RegisterTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.developer = make_member(cls.service, "developer", username="dev")
        cls.body = {
            "service": "web",
            "codebuild_id": "web:00000000-0000-4000-8000-000000000001",
            "commit": "a" * 40,
        }

    def register(self, user=None, *scopes: str, answer: object = None, **body: object):
        """POST with CodeBuild answering ``answer``: a BuildInfo, None for "no such build", or an error."""
        self.asked = 0

        def get_build(codebuild_id: str, **options: object) -> object:
            self.asked += 1
            if isinstance(answer, Exception):
                raise answer
            return answer

        with patch.object(codebuild, "get_build", get_build):
            return ApiClient(user or self.developer, *scopes).post("/api/v1/builds/", {**self.body, **body})

    def assert_problem(self, response, status: int, *words: str) -> None:
        assert response.status_code == status, response.content
        assert response["Content-Type"] == "application/problem+json"
        for word in words:
            assert word in response.json()["detail"], response.json()
        assert not Build.objects.exists(), "nothing is half-written"

    def test_a_build_is_registered(self) -> None:
        response = self.register(answer=running_build(self.body["codebuild_id"]))
        assert response.status_code == 201, response.content
        found = response.json()
        assert response["Location"].endswith(f"/api/v1/builds/{found['id']}/")
        assert (found["status"], found["final"], found["release"]) == ("IN_PROGRESS", False, None)
        assert (found["requested_by"], found["commit"], found["reports"]) == ("dev", "a" * 40, [])

    def test_the_run_that_registered_first_stays(self) -> None:
        answer = running_build(self.body["codebuild_id"])
        first = self.register(answer=answer, pipeline_url="http://jenkins:8080/job/web/7/").json()
        again = self.register(answer=answer, pipeline_url="https://ci.example/8").json()
        assert first["pipeline_url"] == again["pipeline_url"] == "http://jenkins:8080/job/web/7/"
        assert Entry.objects.get().data["pipeline_url"] == "http://jenkins:8080/job/web/7/"

    def test_a_known_build_is_not_asked_for_again(self) -> None:
        first = self.register(answer=running_build(self.body["codebuild_id"]))
        second = self.register(answer=AwsError("away", retryable=True, code="X"))
        assert (second.status_code, self.asked) == (200, 0)
        assert first.json()["id"] == second.json()["id"]

    def test_a_build_that_codebuild_does_not_know(self) -> None:
        self.assert_problem(self.register(answer=None), 404, "does not know", self.body["codebuild_id"])

    def test_codebuild_away(self) -> None:
        response = self.register(answer=AwsError("read timeout", retryable=True, code="ReadTimeoutError"))
        self.assert_problem(response, 503, "CodeBuild could not be asked")
        assert response["Retry-After"] == "5"

    def test_a_service_that_is_not_there_or_not_theirs(self) -> None:
        self.assert_problem(self.register(service="nothing"), 404, "'nothing'")
        stranger = make_user("stranger")
        self.assert_problem(self.register(stranger), 404, "'web'")
        assert self.asked == 0

    def test_viewers_and_other_scopes_may_not(self) -> None:
        viewer = make_member(self.service, "viewer")
        self.assert_problem(self.register(viewer), 403, "developer")
        self.assert_problem(self.register(self.developer, "read"), 403, "ci")
        assert self.asked == 0

    def test_fields_that_cannot_be(self) -> None:
        self.assert_problem(self.register(codebuild_id="other:1"), 400, "project other")
        self.assert_problem(self.register(codebuild_id="web"), 400, "project:uuid")
        self.assert_problem(self.register(commit="HEAD"), 400, "40 hexadecimal digits")
        self.assert_problem(self.register(pipeline_url="javascript:alert(1)"), 400, "no page of a pipeline")
        self.assert_problem(self.register(pipeline_url="https://a:b@ci.example/"), 400, "nor a user's name")
        response = self.register(project="web", commit=None)
        self.assert_problem(response, 400)
        assert [error["pointer"] for error in response.json()["errors"]] == ["#/project"]
