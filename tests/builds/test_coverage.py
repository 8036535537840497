"""Coverage by file: kept small, compared with another build, at the API, in the admin and as a command."""

import json
import random
from datetime import UTC, datetime
from io import StringIO

from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import SimpleTestCase, TestCase
from django.urls import reverse

from apps.builds.coverage import compare_coverage, coverage_report, earlier_report, pack, unpack
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import COUNT_LIMIT, FileCoverage, Table
from apps.errors import Invalid, NotFound
from tests.clients import ApiClient, signed_in
from tests.factories import (
    make_build,
    make_coverage,
    make_member,
    make_report,
    make_service,
    make_user,
)


class KeepingTests(SimpleTestCase):
    def test_what_is_packed_comes_out_again(self):
        files = [FileCoverage("a.py", 1, 2), FileCoverage("\x00ü <b>", 0, 10**11, 3, 4)]
        assert unpack(pack(files)) == files

    def test_five_thousand_files_take_less_than_a_hundred_kilobytes(self):
        numbers = random.Random(1)
        words = [f"{numbers.getrandbits(40):x}" for _ in range(400)]
        files = []
        for number in range(5_000):
            path = "src/" + "/".join(numbers.choices(words, k=3)) + f"/module_{number}.py"
            total = numbers.randint(5, 900)
            files.append(FileCoverage(path, numbers.randint(0, total), total, 1, 2))
        assert len(pack(files)) < 100_000

    def test_half_a_surrogate_pair_is_no_text(self):
        table = Table()
        table.add(FileCoverage("a\ud800.rb", 1, 2))
        table.add(FileCoverage("a?.rb", 1, 2))
        assert table.files() == [FileCoverage("a?.rb", 2, 4)]

    def test_branches_are_known_where_any_report_tells_of_them(self):
        table = Table()
        table.add(FileCoverage("a", 1, 2))
        table.add(FileCoverage("a", 1, 2, 1, 2))
        table.add(FileCoverage("b", 0, 1))
        assert table.files() == [FileCoverage("a", 2, 4, 1, 2), FileCoverage("b", 0, 1)]
        assert (table.sum().files, table.sum().lines_total, table.sum().branches_total) == (2, 5, 2)

    def test_counts_that_cannot_be_are_refused(self):
        table = Table()
        table.add(FileCoverage("a", 0, COUNT_LIMIT))
        with self.assertRaisesMessage(ReportRefused, "more than 1,000,000,000,000 lines"):
            table.add(FileCoverage("b", 0, 1))


class CoverageTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.service = make_service("web")
        cls.before = make_build(cls.service)
        cls.build = make_build(cls.service)
        cls.old = make_coverage(
            cls.before,
            files={"same.py": (1, 2), "worse.py": (10, 10), "better.py": (0, 4), "gone.py": (1, 1)},
        )
        cls.new = make_coverage(
            cls.build, files={"same.py": (1, 2), "worse.py": (5, 10), "better.py": (2, 4), "new.py": (0, 40)}
        )
        make_report(cls.build, name="unit")
        cls.viewer = make_member(cls.service, "viewer")

    def path(self, build=None):
        return f"/api/v1/builds/{(build or self.build).pk}/coverage/"

    def get(self, **query):
        return ApiClient(self.viewer).get(self.path(), query)

    def test_without_another_build_each_file_tells_of_itself(self):
        told = self.get().json()
        assert (told["build"], told["report"], told["against"]) == (self.build.pk, "coverage", None)
        assert told["now"]["percent"] == 14.28
        assert (told["before"], told["change"], told["next"]) == (None, None, None)
        assert [file["path"] for file in told["files"]] == ["better.py", "new.py", "same.py", "worse.py"]
        assert told["files"][0]["now"] == {
            "lines_covered": 2,
            "lines_total": 4,
            "branches_covered": None,
            "branches_total": None,
            "percent": 50.0,
        }
        assert told["files"][0]["before"] is None

    def test_against_another_build_each_file_has_its_change(self):
        told = self.get(against=self.before.pk, order="change").json()
        assert told["against"] == self.before.pk
        assert (told["before"]["lines_covered"], told["before"]["lines_total"]) == (12, 17)
        assert told["change"] == -56.3
        assert [(file["path"], file["change"]) for file in told["files"]] == [
            ("worse.py", -50.0),
            ("same.py", 0.0),
            ("better.py", 50.0),
            ("new.py", None),
            ("gone.py", None),
        ]
        assert told["files"][-1]["now"] is None
        changed = self.get(against=self.before.pk, changed="true").json()["files"]
        assert [file["path"] for file in changed] == ["better.py", "gone.py", "new.py", "worse.py"]

    def test_what_has_most_lines_that_no_test_ran_comes_first(self):
        paths = [file["path"] for file in self.get(order="missed").json()["files"]]
        assert paths == ["new.py", "worse.py", "better.py", "same.py"]

    def test_files_come_in_pages(self):
        first = self.get(page_size=3).json()
        assert len(first["files"]) == 3
        second = ApiClient(self.viewer).get(first["next"]).json()
        assert [file["path"] for file in second["files"]] == ["worse.py"]
        assert second["next"] is None

    def test_it_costs_the_same_however_many_files_there_are(self):
        # 1: token with user  2: build  3: the other build  4, 5: their reports  6: the files of both
        client = ApiClient(self.viewer)
        with self.assertNumQueries(6):
            client.get(self.path(), {"against": self.before.pk})

    def test_parameters_that_cannot_be_are_named(self):
        for query in ({"agianst": 1}, {"against": "x"}, {"order": "size"}, {"page": 0}, {"page_size": 201}):
            with self.subTest(query):
                answer = self.get(**query)
                assert answer.status_code == 400
                assert [error["parameter"] for error in answer.json()["errors"]] == list(query)

    def test_what_is_not_there_is_said(self):
        assert self.get(against=10**18).status_code == 404
        assert self.get(report="nope").json()["detail"].endswith("it has coverage.")
        bare = make_build(self.service)
        answer = ApiClient(self.viewer).get(self.path(bare))
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            f"Build {bare.pk} has no coverage report.",
        )
        assert ApiClient(self.viewer).get("/api/v1/builds/x/coverage/").status_code == 404

    def test_strangers_see_neither_build(self):
        hidden = make_coverage(make_build()).build
        assert ApiClient(self.viewer).get(self.path(hidden)).status_code == 404
        assert self.get(against=hidden.pk).status_code == 404
        root = ApiClient(make_user("root", is_superuser=True))
        answer = root.get(self.path(), {"against": hidden.pk})
        assert answer.status_code == 400
        assert "of another service" in answer.json()["detail"]

    def test_of_several_reports_one_has_to_be_named(self):
        make_coverage(self.build, name="e2e-coverage", files={"e2e.py": (1, 1)})
        assert "name one as report: coverage, e2e-coverage" in self.get().json()["detail"]
        assert self.get(report="e2e-coverage").json()["now"]["percent"] == 100.0
        with self.assertRaisesMessage(Invalid, "several"):
            coverage_report(self.build)

    def test_a_report_whose_files_are_not_known_says_why(self):
        report = make_report(
            make_build(self.service),
            name="coverage",
            type="CODE_COVERAGE",
            parsed=None,
            passed=0,
            problem="cut",
        )
        with self.assertRaisesMessage(NotFound, "no files are known: cut"):
            compare_coverage(report)

    def test_a_report_whose_files_were_pruned_says_when(self):
        report = make_report(make_build(), type="CODE_COVERAGE", pruned_at=datetime(2026, 3, 1, tzinfo=UTC))
        with self.assertRaisesMessage(NotFound, "no files are known: they were pruned on 2026-03-01"):
            compare_coverage(report)

    def test_the_earlier_report_is_the_last_one_of_its_name(self):
        assert earlier_report(self.new) == self.old
        assert earlier_report(self.old) is None
        make_coverage(make_build(), name="coverage")
        unread = make_build(self.service)
        make_report(unread, name="coverage", type="CODE_COVERAGE", parsed=None, passed=0)
        assert earlier_report(make_coverage(make_build(self.service))) == self.new

    def test_reports_of_a_build_tell_their_lines(self):
        found = ApiClient(self.viewer).get(f"/api/v1/builds/{self.build.pk}/").json()["reports"]
        told = {report["name"]: report for report in found}
        assert told["coverage"]["complete"]
        assert (told["coverage"]["lines_covered"], told["coverage"]["lines_total"]) == (8, 56)
        assert told["unit"]["lines_total"] is None

    def page(self, report):
        client = signed_in(make_user("root", is_superuser=True, is_staff=True))
        return client.get(reverse("admin:builds_report_change", args=[report.pk]))

    def test_the_page_of_a_report_shows_what_lost_most(self):
        page = self.page(self.new)
        self.assertContains(page, "14.28 %: 8 of 56 lines")
        self.assertContains(page, f'href="{reverse("admin:builds_report_change", args=[self.old.pk])}"')
        text = page.content.decode()
        assert text.index("worse.py") < text.index("better.py")
        self.assertContains(page, "-50.00")
        self.assertNotContains(page, "est cases that did not pass")

    def test_the_page_shows_names_as_they_are_and_not_too_many(self):
        files = {f"<b>{number:03}.py": (0, 1) for number in range(60)}
        page = self.page(make_coverage(make_build(self.service), name="other", files=files))
        self.assertContains(page, "&lt;b&gt;049.py")
        self.assertNotContains(page, "050.py")
        self.assertContains(page, "and 10 more")

    def test_the_page_of_a_report_of_tests_says_nothing_of_files(self):
        page = self.page(self.build.reports.get(name="unit"))
        self.assertNotContains(page, "lines covered")
        self.assertContains(page, "10 passed")
        self.assertContains(page, "est cases that did not pass")

    def run_command(self, *arguments):
        out = StringIO()
        call_command("reports", "coverage", *arguments, stdout=out)
        return out.getvalue()

    def test_the_command_prints_files_with_their_change(self):
        text = self.run_command(
            self.build.codebuild_id, "--against", str(self.before.pk), "--order", "change"
        )
        head, *rows = text.splitlines()
        assert head == (
            f"{self.build} coverage: 8 of 56 lines (14.28 %), -56.30 points against {self.before}"
        )
        assert rows[0].split() == ["5/10", "50.00", "%", "-50.00", "worse.py"]
        assert rows[-1].split() == ["gone", "gone.py"]

    def test_the_command_prints_json(self):
        told = json.loads(self.run_command(str(self.build.pk), "--json", "--changed"))
        assert (told["report"], told["now"]["lines_total"], len(told["files"])) == ("coverage", 56, 4)

    def test_the_command_says_what_is_not_there(self):
        with self.assertRaisesMessage(CommandError, "There is no build 'nobody:1'"):
            self.run_command("nobody:1")
        with self.assertRaisesMessage(CommandError, "has no coverage report 'unit'; it has coverage"):
            self.run_command(str(self.build.pk), "--report", "unit")
