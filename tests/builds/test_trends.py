"""Tests, pass rate, duration and coverage from build to build."""

import json
from io import StringIO
from itertools import product

from django.core.management import call_command
from django.test import TestCase

from apps.builds.models import Build, Report
from apps.builds.trends import of_branch, read_builds, trend
from tests.builds.outcomes import case, report
from tests.clients import ApiClient, signed_in
from tests.factories import make_build, make_member, make_report, make_service, make_user


class TrendTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.viewer = make_member(cls.service, "viewer", is_staff=True)
        cls.builds = [make_build(cls.service, source_version="main") for _ in range(3)]
        report(cls.builds[0], "pp")
        report(cls.builds[1], "ppf")
        report(cls.builds[1], "es", group="e2e")
        report(cls.builds[2], "ppp", case("long", ms=2000))
        counts = dict.fromkeys(("declared", "returned", "parsed"))
        cls.coverage = make_report(
            cls.builds[2],
            name="cover",
            type="CODE_COVERAGE",
            passed=0,
            lines_covered=2,
            lines_total=3,
            **counts,
        )
        make_build(cls.service, source_version="main", collected_at=None)
        cls.topic = make_build(cls.service, source_version="topic")
        cls.hidden = make_build()

    def test_it_adds_up_the_reports_of_each_build(self) -> None:
        # 1: builds  2: their reports
        with self.assertNumQueries(2):
            newest, middle, oldest = trend(of_branch(read_builds(), "main"))
        assert [row["id"] for row in (newest, middle, oldest)] == [each.pk for each in reversed(self.builds)]
        assert (oldest["tests"], oldest["pass_rate"], oldest["complete"]) == (2, 100.0, True)
        told = ("tests", "passed", "failed", "errors", "skipped", "pass_rate", "line_rate")
        assert [middle[name] for name in told] == [5, 2, 1, 1, 1, 50.0, None]
        assert (newest["duration_ns"], newest["lines_covered"], newest["line_rate"]) == (
            2_030_000_000,
            2,
            66.66,
        )

    def test_rates_are_rounded_down_and_none_of_nothing(self) -> None:
        Report.objects.filter(build=self.builds[0]).update(passed=99_999, failed=1, parsed=100_000)
        (row,) = trend(Build.objects.filter(pk=self.builds[0].pk))
        assert row["pass_rate"] == 99.99
        (row,) = trend(Build.objects.filter(pk=self.topic.pk))
        assert (row["tests"], row["pass_rate"], row["complete"]) == (0, None, True)

    def test_only_reports_of_a_name(self) -> None:
        (row,) = trend(Build.objects.filter(pk=self.builds[1].pk), report="e2e")
        assert (row["tests"], row["errors"]) == (2, 1)

    def test_what_is_not_complete_says_so(self) -> None:
        Report.objects.filter(pk=self.coverage.pk).update(problem="a raw file is missing")
        assert [row["complete"] for row in trend(of_branch(read_builds(), "main"))] == [False, True, True]

    def test_postgresql_and_python_agree_on_what_is_complete(self) -> None:
        """Of a build's reports in a trend, which PostgreSQL adds up, and of each by itself."""
        unread = {"parsed": None, "passed": 0, "failed": 0, "errors": 0, "skipped": 0}
        covered = {"lines_covered": 1, "lines_total": 2}
        for kind, counts, problem in product(
            ("TEST", "CODE_COVERAGE"), ({}, unread, covered), ("", "cut off")
        ):
            build = make_build(self.service)
            told = make_report(build, type=kind, problem=problem, **counts)
            (row,) = trend(Build.objects.filter(pk=build.pk))
            assert row["complete"] == told.complete, (kind, counts, problem)

    def test_the_api_lists_it(self) -> None:
        client = ApiClient(self.viewer)
        # 1: token with user  2: builds with service  3: their reports
        with self.assertNumQueries(3):
            rows = client.get("/api/v1/trends/").json()["results"]
        assert [row["id"] for row in rows] == [self.topic.pk, *(each.pk for each in reversed(self.builds))]
        assert (rows[1]["service"], rows[1]["line_rate"]) == ("web", 66.66)
        rows = client.get("/api/v1/trends/", {"service": "web", "branch": "main", "report": "e2e"}).json()
        assert [(row["id"], row["tests"]) for row in rows["results"]] == [(self.builds[1].pk, 2)]
        assert client.get("/api/v1/trends/", {"source": "main"}).status_code == 400
        assert ApiClient(make_user()).get("/api/v1/trends/").json()["results"] == []

    def test_a_build_s_page_draws_those_up_to_it(self) -> None:
        client = signed_in(self.viewer)
        page = client.get(f"/admin/builds/build/{self.builds[1].pk}/change/")
        self.assertContains(page, "Tests from build to build of main")
        self.assertContains(page, '<rect fill="#16a34a"', count=2)
        self.assertContains(page, '<rect fill="#dc2626"', count=1)
        # Alone on its branch, it is shown among all.
        page = client.get(f"/admin/builds/build/{self.topic.pk}/change/")
        self.assertContains(page, '<rect fill="#16a34a"', count=4)

    def test_the_command_prints_it(self) -> None:
        out = StringIO()
        call_command("reports", "trends", "web", "--branch", "main", stdout=out)
        head, _, middle, _ = out.getvalue().splitlines()
        assert head.split()[:4] == ["FINISHED", "BUILD", "COMMIT", "TESTS"]
        assert middle.split()[4:9] == ["5", "2", "2", "50.00", "%"]
        out = StringIO()
        call_command("reports", "trends", "web", "--limit", "1", "--json", stdout=out)
        assert [row["id"] for row in json.loads(out.getvalue())["builds"]] == [self.topic.pk]
