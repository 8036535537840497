"""What is told of a report."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import TestCase

from apps.builds.models import Report, ReportFile
from apps.builds.report import slowest_cases
from tests.builds.outcomes import case, evidence, write
from tests.clients import ApiClient, signed_in
from tests.factories import make_build, make_member, make_report, make_service, make_user


class ReportTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.viewer = make_member(cls.service, "viewer", is_staff=True)
        cls.build = make_build(cls.service)
        cases = (
            case("quick", ms=1),
            case("slow", ms=5000),
            case("red", "f", ms=700, message="1 != 2", details="File a.py"),
            case("broken", "e", ms=0),
            case("skipped", "s", ms=0),
        )
        (cls.report,) = write(cls.build, evidence(cls.build, *cases))
        ReportFile.objects.create(
            report=cls.report, bucket="b", key="unit.xml", version="v1", size=7, sha256="0" * 64
        )
        cls.path = f"/api/v1/reports/{cls.report.pk}/"

    def test_the_slowest_come_first_and_what_took_no_time_does_not_come(self) -> None:
        # 1: outcomes  2: names
        with self.assertNumQueries(2):
            found = slowest_cases(self.report.pk, limit=20)
        assert [(name.name, ended.duration_ns) for name, ended in found] == [
            ("slow", 5_000_000_000),
            ("red", 700_000_000),
            ("quick", 1_000_000),
        ]
        assert len(slowest_cases(self.report.pk, limit=1)) == 1

    def test_a_report_without_outcomes_has_no_slowest(self) -> None:
        assert slowest_cases(make_report(self.build, name="old").pk, limit=20) == []

    def test_the_api_tells_the_whole(self) -> None:
        client = ApiClient(self.viewer)
        # 1: token with user  2: report with build  3: files  4: failures  5: outcomes  6: names
        with self.assertNumQueries(6):
            found = client.get(self.path).json()
        assert (found["service"], found["build"], found["commit"]) == (
            "web",
            self.build.pk,
            self.build.commit,
        )
        assert (found["passed"], found["failed"], found["errors"], found["complete"]) == (2, 1, 1, True)
        assert [(each["name"], each["status"]) for each in found["failures"]] == [
            ("red", "FAILED"),
            ("broken", "ERROR"),
        ]
        assert "1 != 2" in found["failures"][0]["message"]
        assert "File a.py" in found["failures"][0]["message"]
        assert [each["name"] for each in found["slowest"]] == ["slow", "red", "quick"]
        assert found["files"] == [
            {"bucket": "b", "key": "unit.xml", "version": "v1", "size": 7, "sha256": "0" * 64}
        ]
        assert len(client.get(found["links"]["results"]).json()["results"]) == 3

    def test_the_api_lists_reports(self) -> None:
        make_report(self.build, name="e2e")
        client = ApiClient(self.viewer)
        # 1: token with user  2: reports with builds and services
        with self.assertNumQueries(2):
            found = client.get("/api/v1/reports/").json()["results"]
        assert [each["name"] for each in found] == ["e2e", "unit"]
        found = client.get("/api/v1/reports/", {"name": "unit", "build": self.build.pk, "service": "web"})
        assert [each["id"] for each in found.json()["results"]] == [self.report.pk]

    def test_a_stranger_sees_none(self) -> None:
        client = ApiClient(make_user())
        assert client.get(self.path).status_code == 404
        assert client.get("/api/v1/reports/").json()["results"] == []

    def test_the_admin_shows_it(self) -> None:
        page = signed_in(self.viewer).get(f"/admin/builds/report/{self.report.pk}/change/")
        self.assertContains(page, "Its slowest tests")
        self.assertContains(page, "C::slow")
        self.assertContains(page, "1 != 2")

    def test_the_command_prints_it(self) -> None:
        Report.objects.filter(pk=self.report.pk).update(problem="a raw file is missing")
        out = StringIO()
        call_command("reports", "show", str(self.report.pk), stdout=out)
        told = out.getvalue()
        assert f"unit of build {self.build.pk}" in told
        assert "not complete (a raw file is missing)" in told
        assert "2 passed, 1 failed, 1 errors, 1 skipped, 0 unknown" in told
        assert "s3://b/unit.xml" in told
        assert "5.00 s  unit: C::slow" in told
        out = StringIO()
        call_command("reports", "show", str(self.report.pk), "--json", stdout=out)
        assert json.loads(out.getvalue())["failures"][0]["name"] == "red"
        with pytest.raises(CommandError, match="no report 999999"):
            call_command("reports", "show", "999999")
