import pytest

from apps.gates.rules.min_tests import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, build_fact, facts, report_fact, running_build, running_fact


def find(*reports, running=None, build=None, **parameters):
    told = facts(reports=reports, running=running, build=build or build_fact())
    return judge(told, Parameters(**parameters), NOON)


def test_as_many_as_asked_for_pass_and_nothing_runs_to_compare_with():
    finding = find(report_fact(), minimum=10)
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == ("10 tests ran; at least 10 must. Nothing runs in production to compare with.")
    assert finding.evidence["running"] is None


def test_one_fewer_blocks():
    finding = find(report_fact(passed=9), minimum=10)
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence == "9 tests ran, and at least 10 must."


def test_failures_and_errors_ran_and_skipped_ones_did_not():
    assert find(report_fact(passed=1, failed=1, errors=1), minimum=3).verdict == Verdict.PASS
    assert find(report_fact(passed=1, skipped=99), minimum=2).verdict == Verdict.BLOCKED


def test_no_test_at_all_is_too_few_whatever_the_policy_says():
    assert find(report_fact(passed=0), maximum_drop=100).verdict == Verdict.BLOCKED


def test_reports_are_taken_together_and_only_named_groups_count():
    reports = (report_fact("unit"), report_fact("e2e", passed=2), report_fact("cover", type="CODE_COVERAGE"))
    assert find(*reports, minimum=12).verdict == Verdict.PASS
    assert find(*reports, minimum=12, groups=("e2e",)).verdict == Verdict.BLOCKED


def test_unknown_outcomes_count_only_where_they_could_tip_it():
    assert find(report_fact(unknown=5), minimum=10).verdict == Verdict.PASS
    assert find(report_fact(passed=6, unknown=4), minimum=10).verdict == Verdict.INCONCLUSIVE
    assert find(report_fact(passed=6, unknown=3), minimum=10).verdict == Verdict.BLOCKED


@pytest.mark.parametrize(
    ("ran", "verdict"), [(100, Verdict.PASS), (90, Verdict.PASS), (89, Verdict.BLOCKED), (200, Verdict.PASS)]
)
def test_at_most_so_many_of_what_runs_may_be_missing(ran, verdict):
    running = running_fact(report_fact(passed=100))
    finding = find(report_fact(passed=ran), running=running, maximum_drop=10)
    assert finding.verdict == verdict
    assert "1.1.0, which runs in production, had 100, of which at most 10 %" in finding.sentence
    assert finding.evidence["running"]["version"] == "1.1.0"
    assert finding.evidence["running"]["ran"] == 100


def test_no_rounding_lets_a_test_get_lost():
    running = running_fact(report_fact(passed=15))
    assert find(report_fact(passed=13), running=running, maximum_drop=10).verdict == Verdict.BLOCKED


def test_no_drop_at_all_and_any_drop():
    running = running_fact(report_fact(passed=100))
    assert find(report_fact(passed=99), running=running, maximum_drop=0).verdict == Verdict.BLOCKED
    finding = find(report_fact(passed=1), running=running, maximum_drop=100)
    assert (finding.verdict, finding.sentence) == (Verdict.PASS, "1 test ran; at least 1 must.")


def test_unknown_outcomes_of_what_runs_are_taken_for_tests_and_new_ones_are_not():
    running = running_fact(report_fact(passed=90, unknown=10))
    assert find(report_fact(passed=90), running=running, maximum_drop=0).verdict == Verdict.BLOCKED
    one_unknown = report_fact(passed=99, unknown=1)
    assert find(one_unknown, running=running, maximum_drop=0).verdict == Verdict.INCONCLUSIVE


def test_only_the_named_reports_of_what_runs_are_compared():
    running = running_fact(report_fact("unit", passed=10), report_fact("e2e", passed=90))
    assert find(report_fact("unit"), running=running, groups=("unit",)).verdict == Verdict.PASS
    assert find(report_fact("unit"), running=running).verdict == Verdict.BLOCKED


def test_what_runs_without_such_a_report_is_nothing_to_drop_from():
    finding = find(report_fact(), running=running_fact(report_fact("e2e")), groups=("unit",))
    assert finding.verdict == Verdict.PASS
    assert finding.sentence.endswith("1.1.0, which runs in production, has no such report to compare with.")


def test_the_release_itself_is_no_baseline():
    running = running_fact(report_fact(passed=100), release_id=42)
    finding = find(report_fact(), running=running)
    assert finding.verdict == Verdict.PASS
    assert finding.sentence.endswith("It runs in production itself.")


def test_an_incomplete_baseline_is_inconclusive_unless_nothing_is_compared():
    running = running_fact(report_fact(complete=False, problem="a raw file is missing"))
    finding = find(report_fact(), running=running)
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert "its report unit is not complete (a raw file is missing)" in finding.sentence
    assert finding.who == "whoever manages shop: maximum_drop 100 lets a release pass without comparing"
    assert find(report_fact(), running=running, maximum_drop=100).verdict == Verdict.PASS
    assert find(report_fact(), running=running, minimum=11).verdict == Verdict.BLOCKED


def test_a_missing_or_incomplete_report_is_inconclusive():
    assert find().verdict == Verdict.INCONCLUSIVE
    assert find(report_fact(), groups=("unit", "e2e")).verdict == Verdict.INCONCLUSIVE
    assert find(report_fact(complete=False)).verdict == Verdict.INCONCLUSIVE


def test_a_running_build_is_waited_for():
    assert find(build=running_build()).verdict == Verdict.WAITING_EVIDENCE
