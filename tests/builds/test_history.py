"""A test through the builds."""

import json
from io import StringIO
from unittest.mock import patch

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from apps.builds.history import case_history, find_case
from apps.builds.models import Report
from apps.builds.models import TestCase as Case
from apps.builds.parsers.case import Attempt, Outcome
from apps.errors import Invalid, NotFound
from tests.builds.outcomes import case, evidence, report, write
from tests.clients import ApiClient, signed_in
from tests.factories import make_build, make_member, make_service, make_user


class HistoryTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.viewer = make_member(cls.service, "viewer", is_staff=True)

    def runs(self, letters: str, **fields: object) -> list:
        """A build for each letter: how the test b ended in it."""
        builds = [make_build(self.service, **fields) for _ in letters]
        for build, letter in zip(builds, letters, strict=True):
            report(build, f"p{letter}p")
        return builds

    def b(self) -> Case:
        return Case.objects.get(name="b")

    def test_it_tells_each_run_the_newest_first(self) -> None:
        builds = self.runs("pfe-su")
        history = case_history(self.b())
        assert [run.build for run in history.runs] == [build.pk for build in reversed(builds)]
        told = [run.ended.outcome.value if run.ended else None for run in history.runs]
        assert told == ["UNKNOWN", "SKIPPED", None, "ERROR", "FAILED", "SUCCEEDED"]
        assert history.runs[0].commit == builds[-1].commit
        assert history.runs[-1].ended.duration_ns == 10_000_000

    def test_since_when_it_fails(self) -> None:
        builds = self.runs("fpfps-fsf")
        history = case_history(self.b())
        assert history.first_failure.build == builds[0].pk
        assert history.last_pass.build == builds[3].pk
        assert history.failing_since.build == builds[6].pk
        assert case_history(self.b(), limit=2).first_failure.build == builds[8].pk

    def test_what_passes_does_not_fail_since(self) -> None:
        builds = self.runs("fps")
        history = case_history(self.b())
        assert history.failing_since is None
        assert history.last_pass.build == builds[1].pk
        assert history.first_failure.build == builds[0].pk

    def test_what_never_passed_fails_since_its_first_failure(self) -> None:
        builds = self.runs("sff")
        history = case_history(self.b())
        assert history.last_pass is None
        assert history.failing_since.build == history.first_failure.build == builds[1].pk

    def test_messages_attempts_and_incomplete_reports_are_told(self) -> None:
        build = make_build(self.service)
        flaky = (Attempt(Outcome.FAILED), Attempt(Outcome.PASSED))
        write(build, evidence(build, case("b", "f", message="1 != 2"), case("c", attempts=flaky)))
        Report.objects.update(problem="a raw file is missing")
        (run,) = case_history(self.b()).runs
        assert (run.message, run.complete) == ("1 != 2", False)
        (run,) = case_history(Case.objects.get(name="c")).runs
        assert run.ended.flaky
        assert run.passed

    def test_only_of_a_branch(self) -> None:
        self.runs("pp", source_version="main")
        other = self.runs("f", source_version="topic")
        assert [run.build for run in case_history(self.b(), branch="topic").runs] == [other[0].pk]
        assert case_history(self.b(), branch="none").runs == ()

    def test_a_report_from_before_the_test_is_not_there(self) -> None:
        build = make_build(self.service)
        report(build, "p")
        self.runs("p")
        assert [bool(run.ended) for run in case_history(self.b()).runs] == [True, False]

    def test_a_test_without_a_position_has_no_history(self) -> None:
        lone = Case.objects.create(pk=5, service=self.service, group="unit", name="old")
        with self.assertNumQueries(0):
            assert case_history(lone).runs == ()

    def test_it_reads_slices_in_two_queries(self) -> None:
        self.runs("pfpfpf")
        b = self.b()
        # 1: reports with slices  2: messages
        with self.assertNumQueries(2) as queries:
            case_history(b)
        assert "substring" in queries[0]["sql"]

    def test_a_test_is_found_by_what_names_it(self) -> None:
        build = make_build(self.service)
        write(build, evidence(build, case("test_login"), case("test_login_twice"), case("test_logout")))
        write(build, evidence(build, case("test_logout"), group="e2e"))
        exact = find_case(service=self.service, name="test_login")
        assert find_case(service=self.service, name="C::test_login") == exact
        assert find_case(service=self.service, name=str(exact.pk)) == exact
        assert find_case(service=self.service, name="TWICE").name == "test_login_twice"
        assert find_case(service=self.service, name="test_logout", group="e2e").group == "e2e"
        with pytest.raises(Invalid, match=r"'test_logout' is more than one test of web: e2e: C::test_logout"):
            find_case(service=self.service, name="test_logout")
        with pytest.raises(NotFound, match="web has no test 'nothing' in unit"):
            find_case(service=self.service, name="nothing", group="unit")
        with pytest.raises(NotFound):
            find_case(service=make_service("other"), name="test_login")

    def test_the_api_lists_and_finds_tests(self) -> None:
        self.runs("p")
        client = ApiClient(self.viewer)
        # 1: token with user  2-4: a transaction with a limit  5: tests
        with self.assertNumQueries(5):
            found = client.get("/api/v1/cases/", {"service": "web", "search": "C::b"}).json()["results"]
        assert [(each["class_name"], each["name"], each["group"]) for each in found] == [("C", "b", "unit")]
        assert found[0]["id"] == str(self.b().pk)
        assert client.get(f"/api/v1/cases/{found[0]['id']}/").json() == found[0]
        assert len(client.get("/api/v1/cases/", {"page_size": 2}).json()["results"]) == 2
        assert client.get("/api/v1/cases/", {"search": "zz"}).json()["results"] == []

    def many(self) -> None:
        """So many tests that to read all names takes more than a millisecond."""
        with connection.cursor() as cursor:
            cursor.execute(
                'INSERT INTO builds_testcase (id, service_id, "group", suite, class_name, name, ordinal)'
                " SELECT n, %s, 'unit', '', 'C', 'test_' || n, 0 FROM generate_series(1, 30000) AS n",
                [self.service.pk],
            )

    def test_a_search_that_takes_too_long_is_given_up(self) -> None:
        client = ApiClient(self.viewer)
        self.many()
        with patch("apps.search.SEARCH_MS", 1):
            answer = client.get("/api/v1/cases/", {"search": "nothing"})
            assert answer.status_code == 400, answer.content
            assert "given up after 0.001 s" in answer.json()["detail"]
            assert client.get("/api/v1/cases/", {"service": "web"}).status_code == 200
        assert client.get("/api/v1/cases/", {"search": "_30000"}).json()["results"][0]["name"] == "test_30000"

    def test_the_admin_searches_as_the_api_does(self) -> None:
        self.runs("p")
        client = signed_in(self.viewer)
        for text, names in (
            ("C::b", ["b"]),
            ("c::B", ["b"]),
            ("B", ["b"]),
            ("c", ["a", "b", "c"]),
            ("z", []),
        ):
            with self.subTest(text), CaptureQueriesContext(connection) as queries:
                shown = client.get("/admin/builds/testcase/", {"q": text}).context["cl"]
                assert sorted(case.name for case in shown.result_list) == names
                counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
                assert counts
                assert all("LIMIT 10000" in sql for sql in counts), counts

    def test_the_admin_gives_up_a_search_that_takes_too_long(self) -> None:
        self.many()
        client = signed_in(self.viewer)
        offered = {"app_label": "builds", "model_name": "quarantine", "field_name": "case", "term": "nothing"}
        with patch("apps.search.SEARCH_MS", 1):
            page = client.get("/admin/builds/testcase/", {"q": "nothing"})
            self.assertContains(page, "The search was given up after 0.001 s")
            assert list(page.context["cl"].result_list) == []
            answer = client.get("/admin/autocomplete/", offered)
            (told,) = answer.json()["results"]
            assert "given up after 0.001 s" in told["text"]
            assert told["disabled"]
            assert client.get("/admin/builds/testcase/").context["cl"].result_count == 10_000
        found = client.get("/admin/builds/testcase/", {"q": "_30000"}).context["cl"].result_list
        assert [case.name for case in found] == ["test_30000"]
        assert client.get("/admin/autocomplete/", offered | {"term": "_30000"}).json()["results"] == [
            {"id": "30000", "text": "C::test_30000"}
        ]

    def test_the_api_tells_a_history(self) -> None:
        builds = self.runs("pff", source_version="main")
        client, path = ApiClient(self.viewer), f"/api/v1/cases/{self.b().pk}/history/"
        # 1: token with user  2: the test  3: its place  4: reports with slices  5: messages
        with self.assertNumQueries(5):
            found = client.get(path).json()
        assert (found["name"], found["failing_since"]["build"]) == ("b", builds[1].pk)
        assert [run["ended"]["outcome"] for run in found["runs"]] == ["FAILED", "FAILED", "SUCCEEDED"]
        assert len(client.get(path, {"limit": 2, "branch": "main"}).json()["runs"]) == 2
        assert client.get(path, {"branch": "other"}).json()["runs"] == []

    def test_the_api_refuses_what_cannot_be(self) -> None:
        self.runs("p")
        client, path = ApiClient(self.viewer), f"/api/v1/cases/{self.b().pk}/history/"
        for query in ("limit=0", "limit=1001", "builds=5"):
            response = client.get(f"{path}?{query}")
            assert response.status_code == 400
            assert response.json()["errors"][0]["parameter"] == query.partition("=")[0]
        assert ApiClient(make_user()).get(path).status_code == 404
        for unknown in ("5", "x", "9" * 30):
            assert client.get(f"/api/v1/cases/{unknown}/history/").status_code == 404

    def test_the_admin_shows_it(self) -> None:
        builds = self.runs("pf", source_version="main")
        client, path = signed_in(self.viewer), f"/admin/builds/testcase/{self.b().pk}/change/"
        page = client.get(path)
        self.assertContains(page, "failing since")
        self.assertContains(page, f"build {builds[1].pk}")
        self.assertContains(page, "<rect ", count=2)
        self.assertContains(client.get(f"{path}?branch=none"), "No build of none has run it.")

    def test_the_command_prints_it(self) -> None:
        builds = self.runs("pff")
        out = StringIO()
        call_command("reports", "history", "web", "b", stdout=out)
        lines = out.getvalue().splitlines()
        assert lines[0] == f"unit: C::b (id {self.b().pk})"
        assert lines[1] == f"failing since: build {builds[1].pk} ({builds[1].commit[:12]})"
        assert [line.split()[5] for line in lines[-3:]] == ["FAILED", "FAILED", "SUCCEEDED"]
        out = StringIO()
        call_command("reports", "history", "web", "b", "--json", "--limit", "1", stdout=out)
        assert len(json.loads(out.getvalue())["runs"]) == 1
        with pytest.raises(CommandError, match="web has no test"):
            call_command("reports", "history", "web", "zz")
