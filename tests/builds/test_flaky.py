"""Which cases are flaky or broken: the definition, and that what is kept follows it."""

import random
from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction
from django.utils import timezone

from apps.builds.flaky import (
    BROKEN_AFTER,
    ENOUGH,
    WINDOW,
    judge_case,
    judge_cases,
    rebuild_states,
    same_commit,
)
from apps.builds.models import CaseState, Quarantine, ReportGroup, ReportOutcomes, TestCase
from apps.builds.outcomes import FLAKY, ended
from apps.builds.parsers.case import Attempt, Outcome
from tests.builds.test_store import case, read, write
from tests.factories import make_build, make_service, make_user
from tests.races import all_at_once

FAILED, PASSED = Outcome.FAILED, Outcome.PASSED
ATTEMPTS = (Attempt(FAILED), Attempt(PASSED))
CODES = {".": 1, "F": 2, "E": 3, "s": 4, "?": 5, " ": 0, "r": 1 | FLAKY, "R": 2 | FLAKY}


def judged(runs: str, commits: str = ""):
    """A case by one letter for each report, and one for its commit: by default all different."""
    commits = commits or "".join(map(chr, range(1000, 1000 + len(runs))))
    return judge_case(bytes(CODES[each] for each in runs), same_commit(list(commits)))


@pytest.mark.parametrize(
    ("runs", "state"),
    [
        ("", "healthy"),
        (".", "healthy"),
        ("sss???   ", "healthy"),
        ("..........F", "broken"),
        ("F", "broken"),
        ("E", "broken"),
        ("F.", "healthy"),
        # Broken and mended, once: 2 of 19.
        ("..........F.........", "healthy"),
        # To and fro: 6 of 19, and before that 4.
        ("....F...F.........F.", "flaky"),
        ("....F...F...........", "healthy"),
        # Flaky, and failing just now.
        ("....F...F.........FF", "broken"),
        (".F.F.F.F.F.F.F.F", "flaky"),
        # However flaky it was: five in a row.
        (".F.F.F.F.F.FFFFF", "broken"),
        # What is skipped is no run.
        (".F.F.F.F.F.FFsF?F F", "broken"),
        # Too few runs for a score.
        (".F.F.F.F", "broken"),
        (".F.F.F.F.", "healthy"),
        # Attempts of one report.
        ("r", "flaky"),
        ("R", "flaky"),
        ("..r....", "flaky"),
    ],
)
def test_the_state_of_a_case(runs, state):
    assert judged(runs).state == state


def test_pass_and_fail_on_one_commit_is_flaky_however_few_runs_there_are():
    assert judged("F.", "aa").state == "flaky"
    assert judged(".F", "aa").state == "flaky"
    assert judged("F.", "ab").state == "healthy"
    assert judged("FsE", "aaa").state == "broken"
    assert judged("F.F.", "abba").commits == 2
    # A rerun on a commit that has both anyway is that one commit.
    assert judged("F.r", "aaa").commits == 1
    assert judged("rRr.", "aaba").commits == 2


def test_builds_of_an_unknown_commit_are_not_one_commit():
    assert judge_case(bytes([2, 1]), same_commit(["", ""])).state == "healthy"
    assert judge_case(bytes([2, 1 | FLAKY]), same_commit(["", ""])).commits == 1


def test_the_score_counts_runs_that_differ_from_the_one_before():
    found = judged(". s.F" + " " + "....." + "FF.")
    assert (found.runs, found.failures, found.transitions) == (11, 3, 4)
    assert found.score == 400
    assert judged("." * (ENOUGH - 1)).score is None
    assert judged("." * ENOUGH).score == 0


@pytest.mark.django_db
class TestWhatIsKept:
    @pytest.fixture(autouse=True)
    def _service(self):
        self.service = make_service("web")

    def report(self, *failed: str, commit: str = "", group: str = "unit", flaky: tuple[str, ...] = ()):
        """A build with one report of the cases a to e."""
        build = make_build(self.service, **({"commit": commit} if commit else {}))
        again = {"attempts": ATTEMPTS}
        cases = [
            case(name, FAILED if name in failed else PASSED, **(again if name in flaky else {}))
            for name in "abcde"
        ]
        (report,) = write(build, read(build, *cases, group=group))
        return report

    def states(self) -> dict[str, str]:
        return dict(CaseState.objects.values_list("case__name", "state"))

    def test_only_what_is_not_healthy_has_a_row(self):
        self.report()
        assert self.states() == {}
        report = self.report("a", "c")
        assert self.states() == {"a": "broken", "c": "broken"}
        row = CaseState.objects.get(case__name="a")
        assert (row.service, row.group, row.report) == (self.service, report.group, report)
        assert (row.runs, row.failures, row.transitions, row.score) == (2, 1, 1, None)
        self.report("c")
        assert self.states() == {"c": "broken"}

    def test_since_is_when_the_state_began(self):
        first = self.report("a")
        self.report("a")
        row = CaseState.objects.get()
        assert (row.since, row.failures) == (first.created_at, 2)

    def test_a_rerun_that_passed_is_flaky_until_it_leaves_the_window(self):
        self.report(flaky=("b",))
        assert self.states() == {"b": "flaky"}
        for _ in range(WINDOW - 1):
            self.report()
        assert self.states() == {"b": "flaky"}
        self.report()
        assert self.states() == {}

    def test_the_same_commit_built_twice(self):
        self.report("a", commit="c" * 40)
        self.report(commit="c" * 40)
        assert self.states() == {"a": "flaky"}

    def test_groups_do_not_mix(self):
        self.report("a", commit="c" * 40)
        self.report(commit="c" * 40, group="e2e")
        assert self.states() == {"a": "broken"}

    def test_a_quarantined_case_keeps_its_row_while_it_is_quarantined(self):
        self.report("a")
        until = timezone.now() + timedelta(days=1)
        quarantine = Quarantine.objects.create(
            case=TestCase.objects.get(name="a"), reason="x", by=make_user(), until=until
        )
        self.report()
        assert self.states() == {"a": "healthy"}
        assert CaseState.objects.quarantined().count() == 1
        assert CaseState.objects.shown_as("healthy").count() == 0
        rebuild_states(group=ReportGroup.objects.get())
        assert self.states() == {"a": "healthy"}
        quarantine.created_at, quarantine.until = until - timedelta(days=9), timezone.now()  # it has run out
        quarantine.save()
        self.report()
        assert self.states() == {}

    def test_a_case_that_is_gone_is_forgotten_with_the_window(self):
        build = make_build(self.service)
        write(build, read(build, case("old", FAILED)))
        for _ in range(WINDOW - 1):
            self.report()
        assert self.states() == {"old": "broken"}
        self.report()
        assert self.states() == {}

    def test_a_report_in_which_all_passes_costs_one_query(self, django_assert_num_queries):
        report = self.report()
        outcomes = report.outcomes.data
        with django_assert_num_queries(1):
            judge_cases(report=report, outcomes=outcomes)

    def test_the_number_of_queries_does_not_grow_with_what_fails(self, django_assert_num_queries):
        report = self.report("a", "b", "c", "d")
        outcomes = report.outcomes.data
        # 1: its cases, and those that have a row  2: the window  3: the rows
        with django_assert_num_queries(3):
            judge_cases(report=report, outcomes=outcomes)

    def test_random_lives_come_to_what_the_definition_says(self):
        chance = random.Random(5)
        names = [f"t{number}" for number in range(12)]
        rates = {name: chance.choice((0.0, 0.02, 0.3, 0.9)) for name in names}
        kept: dict[str, str] = {}
        history: list[tuple[str, dict[str, int]]] = []
        for turn in range(WINDOW + 40):
            commit = chance.choice(["", *(letter * 40 for letter in "abcdef"), f"{turn:040x}"])
            build = make_build(self.service, commit=commit)
            mine = [name for name in names if chance.random() < (0.9 if turn % 40 < 30 else 0.2)]
            cases = [
                case(
                    name,
                    chance.choice((FAILED, Outcome.ERROR, Outcome.SKIPPED))
                    if chance.random() < rates[name]
                    else PASSED,
                    attempts=ATTEMPTS if chance.random() < rates[name] / 50 else (),
                )
                for name in mine
            ]
            (report,) = write(build, read(build, *cases))
            data = bytes(ReportOutcomes.objects.get(report=report).data)
            places = dict(TestCase.objects.values_list("name", "position"))
            codes = {name: data[place * 5] if ended(data, place) else 0 for name, place in places.items()}
            history.append((commit, codes))
            window = history[-WINDOW:]
            for name, code in codes.items():
                mine = bytes(each.get(name, 0) for _, each in window)
                told = judge_case(mine, same_commit([each for each, _ in window]))
                if code & FLAKY or code in (2, 3) or name in kept:
                    kept.pop(name, None)
                    if told.state != "healthy":
                        kept[name] = str(told.state)
            assert self.states() == kept, turn
        assert set(kept.values()) == {"flaky", "broken"}
        columns = ("case", "state", "score", "runs", "failures", "transitions", "commits", "report")
        before = sorted(CaseState.objects.values_list(*columns))
        assert rebuild_states(group=ReportGroup.objects.get()) == len(kept)
        assert sorted(CaseState.objects.values_list(*columns)) == before


@pytest.mark.django_db(transaction=True)
def test_writers_of_one_group_at_once_come_to_what_a_rebuild_does():
    service = make_service("web")
    builds = [make_build(service, commit="c" * 40) for _ in range(8)]
    evidence = [
        read(build, *(case(f"t{n}", FAILED if n == number else PASSED) for n in range(8)))
        for number, build in enumerate(builds)
    ]
    all_at_once(*(partial(write, *each) for each in zip(builds, evidence, strict=True)))
    states = dict(CaseState.objects.values_list("case__name", "state"))
    # Each failed once and passed seven times, all on one commit.
    assert states == {f"t{number}": "flaky" for number in range(8)}
    with transaction.atomic():
        rebuild_states(group=ReportGroup.objects.get())
    assert dict(CaseState.objects.values_list("case__name", "state")) == states
    assert len(builds) > BROKEN_AFTER
