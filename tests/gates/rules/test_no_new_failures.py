import pytest

from apps.gates.rules import no_vanished_tests
from apps.gates.rules.no_new_failures import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import (
    NOON,
    build_fact,
    comparison_fact,
    facts,
    report_fact,
    running_build,
    running_fact,
)

REPORTS = (report_fact(),)
RUNNING = running_fact(report_fact())


def find(*comparisons, running=RUNNING, reports=REPORTS, build=None, **parameters):
    told = facts(reports=reports, running=running, comparisons=comparisons, build=build or build_fact())
    return judge(told, Parameters(**parameters), NOON)


def test_none_passes_and_names_what_runs():
    finding = find(comparison_fact())
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == ("0 new failures against 1.1.0, which runs in production; at most 0 may be.")
    assert finding.evidence["running"]["version"] == "1.1.0"


def test_one_blocks_and_is_named():
    finding = find(comparison_fact(new_failures=1, first_new_failures=("T::a",)))
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence == (
        "1 new failure against 1.1.0, which runs in production, and at most 0 may be: T::a."
    )
    assert finding.evidence["tests"] == [{"name": "T::a", "group": "unit"}]
    assert finding.who == "a developer of shop"


def test_many_are_counted_and_the_first_named():
    names = tuple(f"T::t{number}" for number in range(10))
    finding = find(comparison_fact(new_failures=1234, first_new_failures=names))
    assert finding.sentence.endswith("may be: T::t0, T::t1, T::t2 and 1,231 more.")
    assert len(finding.evidence["tests"]) == 10


@pytest.mark.parametrize(("number", "verdict"), [(3, Verdict.PASS), (4, Verdict.BLOCKED)])
def test_as_many_as_accepted_pass(number, verdict):
    assert find(comparison_fact(new_failures=number), maximum=3).verdict == verdict


def test_reports_are_taken_together_and_only_named_groups_count():
    both = (comparison_fact("unit", new_failures=1), comparison_fact("e2e", new_failures=1))
    assert find(*both, maximum=1).verdict == Verdict.BLOCKED
    assert find(*both, maximum=1, groups=("unit",)).verdict == Verdict.PASS


def test_an_unknown_outcome_may_be_a_new_failure():
    reports = (report_fact(passed=8, unknown=2),)
    finding = find(comparison_fact(), reports=reports)
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert finding.sentence == (
        "0 new failures against 1.1.0, which runs in production, and the outcome of 2 is unknown; "
        "at most 0 may be."
    )
    assert find(comparison_fact(), reports=reports, maximum=2).verdict == Verdict.PASS
    one = comparison_fact(new_failures=1)
    assert find(one, reports=reports, maximum=2).verdict == Verdict.INCONCLUSIVE
    assert find(one, reports=reports, maximum=0).verdict == Verdict.BLOCKED
    told = facts(reports=reports, running=RUNNING, comparisons=(comparison_fact(),), build=build_fact())
    assert no_vanished_tests.judge(told, no_vanished_tests.Parameters(), NOON).verdict == Verdict.PASS


def test_nothing_to_compare_with_passes_and_says_so():
    finding = find(running=None)
    assert (finding.verdict, finding.sentence) == (
        Verdict.PASS,
        "Nothing runs in production to compare with.",
    )
    finding = find(running=running_fact(release_id=42))
    assert finding.sentence == "It runs in production itself."
    finding = find(running=running_fact(report_fact("e2e")), groups=("unit",))
    assert finding.verdict == Verdict.PASS
    assert finding.sentence.endswith("has no such report to compare with.")


def test_what_cannot_be_compared_is_inconclusive():
    finding = find(running=running_fact(report_fact(complete=False, problem="a raw file is missing")))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert "its report unit is not complete (a raw file is missing)" in finding.sentence
    assert finding.who.endswith("a policy without this rule lets a release pass without comparing")
    finding = find(comparison_fact(problem="How the tests of unit of build 3 ended is not kept."))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert finding.sentence.endswith("How the tests of unit of build 3 ended is not kept.")


def test_what_somebody_sent_is_not_compared():
    sent = report_fact("e2e", asserted_by="ci")
    finding = find(comparison_fact(), reports=(*REPORTS, sent))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert finding.sentence.startswith("e2e was sent by ci;")
    assert find(comparison_fact(), reports=(*REPORTS, sent), groups=("unit",)).verdict == Verdict.PASS


def test_what_was_never_compared_is_inconclusive():
    told = facts(running=RUNNING, comparisons=None)
    assert judge(told, Parameters(), NOON).verdict == Verdict.INCONCLUSIVE


def test_a_missing_or_incomplete_report_is_inconclusive():
    assert find(reports=()).verdict == Verdict.INCONCLUSIVE
    assert find(comparison_fact(), groups=("unit", "e2e")).verdict == Verdict.INCONCLUSIVE
    assert find(comparison_fact(), reports=(report_fact(complete=False),)).verdict == Verdict.INCONCLUSIVE


def test_a_running_build_is_waited_for():
    assert find(build=running_build()).verdict == Verdict.WAITING_EVIDENCE


def test_vanished_tests_are_counted_by_their_own_rule():
    told = facts(
        running=RUNNING,
        comparisons=(comparison_fact(vanished=2, first_vanished=("T::a", "T::b"), new_failures=9),),
    )
    finding = no_vanished_tests.judge(told, no_vanished_tests.Parameters(maximum=1), NOON)
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence == (
        "2 vanished tests against 1.1.0, which runs in production, and at most 1 may be: T::a, T::b."
    )
    assert judge(told, Parameters(maximum=9), NOON).verdict == Verdict.PASS
    assert (
        no_vanished_tests.judge(told, no_vanished_tests.Parameters(maximum=2), NOON).verdict == Verdict.PASS
    )
