"""Two builds' tests beside each other."""

import json
import random
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import TestCase

from apps.builds.compare import Comparison, Kind, Slower, _group, compare, compare_builds, previous_build
from apps.builds.models import Report
from apps.builds.outcomes import LAYOUT, Ended, ended
from apps.builds.parsers.case import Attempt, Outcome
from apps.errors import Invalid
from tests.builds.outcomes import case, evidence, report, write
from tests.clients import ApiClient, signed_in
from tests.factories import make_build, make_member, make_report, make_service, make_user

RED = ("FAILED", "ERROR")


def names(comparison: Comparison, kind: Kind, **page: int) -> list[str]:
    return [each.case.name for each in comparison.cases([kind], **page)]


class CompareTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.before = make_build(cls.service)
        cls.after = make_build(cls.service)

    def compare(self, before: str, after: str, **fields: object) -> Comparison:
        report(self.before, before)
        report(self.after, after)
        return compare(before=self.before.pk, after=self.after.pk, **fields)

    def test_each_change_has_its_kind(self) -> None:
        #              abcdefghijkl
        before = "ppsu-ffep-ffp"
        after = "pfefffpp-p-ss"
        found = self.compare(before, after)
        assert names(found, Kind.NEW_FAILURES) == ["b", "c", "d", "e"]
        assert names(found, Kind.STILL_FAILING) == ["f"]
        assert names(found, Kind.FIXED) == ["g", "h"]
        assert names(found, Kind.VANISHED) == ["i", "k"]
        # Positions are given as tests come up.
        assert sorted(names(found, Kind.NEW_TESTS)) == ["e", "j"]
        assert names(found, Kind.NO_LONGER_RUN) == ["l", "m"]
        assert found.counts() == {
            Kind.NEW_FAILURES: 4,
            Kind.STILL_FAILING: 1,
            Kind.FIXED: 2,
            Kind.VANISHED: 2,
            Kind.NO_LONGER_RUN: 2,
            Kind.NEW_TESTS: 2,
            Kind.SLOWER: 0,
        }
        assert found.problems == {}

    def test_a_change_tells_how_the_test_ended_in_both(self) -> None:
        report(self.before, "", case("a", "p", ms=20))
        report(self.after, "", case("a", "f", ms=30))
        (change,) = compare(before=self.before.pk, after=self.after.pk).cases([Kind.NEW_FAILURES])
        assert (change.case.group, str(change.case), change.case.suite) == ("unit", "C::a", "suite")
        assert (change.before.outcome, change.before.duration_ns) == ("SUCCEEDED", 20_000_000)
        assert (change.after.outcome, change.after.duration_ns) == ("FAILED", 30_000_000)

    def test_slower_takes_the_factor_and_the_minimum_and_the_slowest_comes_first(self) -> None:
        for build, times in (
            (self.before, (1000, 1000, 100, 0, 5000)),
            (self.after, (1999, 2000, 700, 600, 5400)),
        ):
            cases = (case(name, ms=ms) for name, ms in zip("abcde", times, strict=True))
            write(build, evidence(build, *cases, case("f", "f", ms=times[0] * 9)))
        found = compare(before=self.before.pk, after=self.after.pk)
        assert names(found, Kind.SLOWER) == ["b", "c", "d"]
        assert names(found, Kind.SLOWER, offset=1, limit=1) == ["c"]
        assert found.counts()[Kind.SLOWER] == 3
        than = Slower(factor=1, minimum_ms=0)
        found = compare(before=self.before.pk, after=self.after.pk, than=than)
        assert sorted(names(found, Kind.SLOWER)) == ["a", "b", "c", "d", "e"]

    def test_the_same_time_is_never_slower(self) -> None:
        assert self.compare("ppp", "ppp", than=Slower(factor=1, minimum_ms=0)).counts()[Kind.SLOWER] == 0

    def test_a_whole_report_that_is_gone_has_vanished(self) -> None:
        report(self.before, "pp", group="e2e")
        found = self.compare("p", "p")
        assert found.counts()[Kind.VANISHED] == 2
        assert {each.case.group for each in found.cases([Kind.VANISHED])} == {"e2e"}
        back = compare(before=self.after.pk, after=self.before.pk)
        assert back.counts()[Kind.NEW_TESTS] == 2

    def test_of_two_reports_of_a_group_the_graver_outcome_counts(self) -> None:
        write(
            self.before,
            evidence(self.before, case("a", "f"), case("b")),
            evidence(self.before, case("a"), case("b"), case("c")),
        )
        report(self.after, "ppf")
        found = compare(before=self.before.pk, after=self.after.pk)
        assert names(found, Kind.FIXED) == ["a"]
        assert names(found, Kind.NEW_FAILURES) == ["c"]
        assert found.counts()[Kind.NEW_TESTS] == 0

    def test_flaky_attempts_do_not_change_how_a_test_ended(self) -> None:
        flaky = case("a", "p", attempts=(Attempt(Outcome.FAILED), Attempt(Outcome.PASSED)))
        write(self.before, evidence(self.before, flaky))
        report(self.after, "p")
        found = compare(before=self.before.pk, after=self.after.pk)
        assert not any(found.counts().values())

    def test_what_is_not_complete_is_told(self) -> None:
        found = self.compare("pp", "p")
        assert found.counts()[Kind.VANISHED] == 1
        Report.objects.filter(build=self.after).update(problem="a raw file is missing")
        found = compare(before=self.before.pk, after=self.after.pk)
        assert found.problems == {
            "unit": f"unit of build {self.after.pk} is not complete (a raw file is missing)."
        }
        assert found.counts()[Kind.VANISHED] == 1

    def test_a_report_from_before_outcomes_were_kept_is_a_problem(self) -> None:
        make_report(self.before)
        report(self.after, "p")
        found = compare(before=self.before.pk, after=self.after.pk)
        assert found.problems == {
            "unit": f"How the tests of unit of build {self.before.pk} ended is not kept."
        }

    def test_builds_of_two_services_are_not_compared(self) -> None:
        with pytest.raises(Invalid, match="different services"):
            compare_builds(before=make_build(), after=self.after)

    def test_a_build_that_has_not_been_read_is_a_problem(self) -> None:
        running = make_build(self.service, collected_at=None)
        assert compare_builds(before=self.before, after=running).problems == {
            "": f"The reports of build {running.pk} have not been read yet."
        }

    def test_queries_do_not_grow_with_cases_or_reports(self) -> None:
        for group in ("unit", "e2e", "slow"):
            report(self.before, "p" * 26, group=group)
            report(self.after, "f" * 26, group=group)
        # 1: reports with outcomes  2: names
        with self.assertNumQueries(2):
            found = compare(before=self.before.pk, after=self.after.pk)
            assert len(found.cases(list(Kind))) == 50
            assert found.counts()[Kind.NEW_FAILURES] == 78

    def test_pages_have_every_case_once(self) -> None:
        for group in ("unit", "e2e"):
            report(self.before, "p" * 13, group=group)
            report(self.after, "f" * 13, group=group)
        found = compare(before=self.before.pk, after=self.after.pk)
        pages = [names(found, Kind.NEW_FAILURES, offset=offset, limit=10) for offset in (0, 10, 20, 30)]
        assert [len(each) for each in pages] == [10, 10, 6, 0]
        assert sorted(name for page in pages for name in page) == sorted("abcdefghijklm" * 2)

    def test_the_build_before_is_of_the_same_branch_where_there_is_one(self) -> None:
        report(self.before, "p")
        main = make_build(self.service, source_version="main")
        report(main, "p")
        report(make_build(self.service, source_version="other"), "p")
        make_build(self.service, source_version="main")
        report(make_build(), "p")
        newest = make_build(self.service, source_version="main")
        assert previous_build(newest) == main
        lone = make_build(self.service, source_version="new-branch")
        assert previous_build(lone).source_version == "other"
        assert previous_build(self.before) is None


def random_outcomes(chance: random.Random, size: int) -> bytes:
    data = bytearray()
    for _ in range(size):
        code = chance.randrange(6)
        flaky = 0x80 if code and chance.random() < 0.2 else 0
        data += LAYOUT.pack(code | flaky, chance.randrange(200_000) if code else 0)
    return bytes(data)


def kinds_of(was: Ended | None, now: Ended | None, than: Slower) -> set[Kind]:
    """What became of a test, in plain words."""
    before, after = (each.outcome.value if each else None for each in (was, now))
    more = now.duration_ns - was.duration_ns if was and now else 0
    told = {
        Kind.NEW_FAILURES: after in RED and before not in RED,
        Kind.STILL_FAILING: after in RED and before in RED,
        Kind.FIXED: before in RED and after == "SUCCEEDED",
        Kind.VANISHED: before is not None and after is None,
        Kind.NEW_TESTS: before is None and after is not None,
        Kind.NO_LONGER_RUN: before in ("SUCCEEDED", *RED) and after == "SKIPPED",
        Kind.SLOWER: before == after == "SUCCEEDED"
        and more >= than.minimum_ms * 1_000_000
        and now.duration_ns >= than.factor * was.duration_ns,
    }
    return {kind for kind, true in told.items() if true}


def test_it_agrees_with_a_plain_reading_of_random_outcomes() -> None:
    chance = random.Random(5)
    than = Slower(factor=1.5, minimum_ms=300)
    for sizes in ((300, 300), (0, 50), (50, 0), (200, 333), (333, 200)):
        before, after = (random_outcomes(chance, size) for size in sizes)
        group = _group(1, "unit", before, after)
        plain = [kinds_of(ended(before, each), ended(after, each), than) for each in range(max(sizes))]
        for kind in Kind:
            slower = kind is Kind.SLOWER
            found = [each for _, each in group.slower(than)] if slower else list(group.positions(kind))
            assert found == [position for position, kinds in enumerate(plain) if kind in kinds], kind
            assert slower or group.count(kind) == len(found)


class ComparisonPagesTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.before, cls.after = make_build(cls.service), make_build(cls.service)
        report(cls.before, "p" * 20 + "f")
        report(cls.after, "f" * 15 + "ppppp", case("slow", ms=900))
        cls.viewer = make_member(cls.service, "viewer", is_staff=True)
        cls.path = f"/api/v1/builds/{cls.after.pk}/comparison/{cls.before.pk}/"

    def test_the_api_tells_counts_and_cases_of_each_kind(self) -> None:
        # 1: token with user  2: this build  3: the other  4: reports with outcomes  5: names
        client = ApiClient(self.viewer)
        with self.assertNumQueries(5):
            found = client.get(self.path).json()
        assert (found["build"]["id"], found["against"]["id"]) == (self.after.pk, self.before.pk)
        assert found["counts"]["new_failures"] == 15
        assert (found["reliable"], found["problems"], found["next"]) == (True, [], None)
        first = found["cases"][0]
        assert (first["kind"], first["class_name"], first["name"]) == ("new_failures", "C", "a")
        assert first["after"] == {"outcome": "FAILED", "duration_ns": 10_000_000, "flaky": False}
        assert isinstance(first["case"], str)

    def test_the_api_gives_one_kind_page_by_page(self) -> None:
        client, path, seen = ApiClient(self.viewer), f"{self.path}?kind=new_failures&page_size=7", []
        while path:
            page = client.get(path).json()
            assert len(page["cases"]) <= 7
            seen += [each["name"] for each in page["cases"]]
            path = page["next"]
        assert seen == list("abcdefghijklmno")

    def test_parameters_that_cannot_be_are_refused(self) -> None:
        client = ApiClient(self.viewer)
        for query in ("kind=none", "page_size=0", "page_size=201", "factor=0.5", "offset=5", "colour=red"):
            response = client.get(f"{self.path}?{query}")
            assert response.status_code == 400, query
            (error,) = response.json()["errors"]
            assert error["parameter"] == query.partition("=")[0]

    def test_a_build_that_is_not_there_or_not_theirs(self) -> None:
        client = ApiClient(self.viewer)
        hidden = make_build()
        for path in (
            f"/api/v1/builds/{self.after.pk}/comparison/999999/",
            f"/api/v1/builds/{self.after.pk}/comparison/{hidden.pk}/",
            f"/api/v1/builds/{hidden.pk}/comparison/{self.after.pk}/",
        ):
            assert client.get(path).status_code == 404
        assert ApiClient(make_user()).get(self.path).status_code == 404

    def test_builds_of_two_services_are_refused(self) -> None:
        root = make_user("root", is_superuser=True)
        response = ApiClient(root).get(f"/api/v1/builds/{self.after.pk}/comparison/{make_build().pk}/")
        assert response.status_code == 400
        assert "different services" in response.json()["detail"]

    def test_the_admin_shows_it_on_the_build_s_page(self) -> None:
        client, path = signed_in(self.viewer), f"/admin/builds/build/{self.after.pk}/change/"
        page = client.get(path)
        self.assertContains(page, "Its tests against build")
        self.assertContains(page, "C::a")
        self.assertContains(page, "and 5 more")
        self.assertContains(client.get(f"{path}?against={self.before.pk}&kind=new_failures"), "C::o")
        self.assertContains(client.get(f"{path}?against={make_build().pk}"), "There is no other build")
        self.assertContains(client.get(f"{path}?against=x"), "There is no other build x")
        first = client.get(f"/admin/builds/build/{self.before.pk}/change/")
        self.assertContains(first, "No earlier build of its service has test reports.")

    def test_the_command_prints_it(self) -> None:
        out = StringIO()
        call_command("reports", "compare", str(self.before.pk), self.after.codebuild_id, stdout=out)
        lines = out.getvalue().splitlines()
        assert lines[0].startswith(f"Build {self.after.pk} (")
        assert lines[1].split() == ["15", "new", "failures"]
        assert "unit: C::a" in out.getvalue()
        assert "and 5 tests more" in out.getvalue()

    def test_the_command_prints_json(self) -> None:
        out = StringIO()
        call_command("reports", "compare", str(self.before.pk), str(self.after.pk), "--json", stdout=out)
        found = json.loads(out.getvalue())
        assert found["counts"]["vanished"] == 1

    def test_the_command_says_which_build_it_does_not_find(self) -> None:
        with pytest.raises(CommandError, match="no build 'nothing'"):
            call_command("reports", "compare", "nothing", str(self.after.pk))
