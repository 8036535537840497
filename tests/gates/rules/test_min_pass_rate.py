import pytest

from apps.gates.rules.min_pass_rate import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, build_fact, facts, hours, quarantine_fact, report_fact, running_build


def find(*reports, build=None, quarantines=(), **parameters):
    told = facts(reports=reports, build=build or build_fact(), quarantines=quarantines)
    return judge(told, Parameters(**parameters), NOON)


def test_all_passed_passes():
    finding = find(report_fact())
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == "10 of 10 executed tests passed; at least 100 % must."


@pytest.mark.parametrize(("failed", "verdict"), [(5, Verdict.PASS), (6, Verdict.BLOCKED)])
def test_the_very_percentage_passes_and_one_test_fewer_blocks(failed, verdict):
    assert find(report_fact(passed=100 - failed, failed=failed), minimum=95).verdict == verdict


def test_no_rounding_lets_a_test_through():
    assert find(report_fact(passed=99_999, errors=1)).verdict == Verdict.BLOCKED


def test_skipped_tests_are_left_out():
    assert find(report_fact(passed=1, skipped=99)).verdict == Verdict.PASS


@pytest.mark.parametrize("minimum", [0, 100])
def test_a_rate_of_no_executed_tests_is_inconclusive(minimum):
    finding = find(report_fact(passed=0, skipped=10), minimum=minimum)
    assert finding.verdict == Verdict.INCONCLUSIVE


def test_unknown_outcomes_count_only_where_they_could_tip_it():
    assert find(report_fact(passed=95, unknown=5), minimum=95).verdict == Verdict.PASS
    assert find(report_fact(passed=94, unknown=6), minimum=95).verdict == Verdict.INCONCLUSIVE
    assert find(report_fact(passed=90, failed=6, unknown=4), minimum=95).verdict == Verdict.BLOCKED


def test_reports_are_taken_together_and_only_named_groups_count():
    reports = (report_fact("unit"), report_fact("e2e", passed=5, failed=5))
    assert find(*reports, minimum=75).verdict == Verdict.PASS
    assert find(*reports, groups=("e2e",), minimum=75).verdict == Verdict.BLOCKED


def test_a_missing_or_incomplete_report_is_inconclusive():
    assert find().verdict == Verdict.INCONCLUSIVE
    assert find(report_fact(), groups=("unit", "e2e")).verdict == Verdict.INCONCLUSIVE
    assert find(report_fact(complete=False)).verdict == Verdict.INCONCLUSIVE


def test_a_running_build_is_waited_for():
    assert find(build=running_build()).verdict == Verdict.WAITING_EVIDENCE


def test_excused_failures_are_left_out_as_if_skipped():
    known = (quarantine_fact("C::known"), quarantine_fact("C::other", id=14))
    report = report_fact(passed=8, failed=2)
    assert find(report, quarantines=known).verdict == Verdict.BLOCKED
    assert find(report, quarantines=known, excuse_quarantined=1).verdict == Verdict.BLOCKED
    finding = find(report, quarantines=known, excuse_quarantined=2)
    assert finding.verdict == Verdict.PASS
    assert finding.sentence.startswith("8 of 8 executed tests passed; at least 100 % must. Excused,")
    assert "C::known (by ben" in finding.sentence


def test_a_rate_of_nothing_but_excused_failures_is_inconclusive():
    finding = find(report_fact(passed=0, failed=1), quarantines=(quarantine_fact(),), excuse_quarantined=1)
    assert finding.verdict == Verdict.INCONCLUSIVE


def test_what_might_be_excused_in_a_pruned_report_is_inconclusive():
    gone = report_fact(passed=8, failed=2, pruned_at=NOON - hours(1))
    assert find(gone, excuse_quarantined=2).verdict == Verdict.INCONCLUSIVE
    assert find(gone, excuse_quarantined=1).verdict == Verdict.BLOCKED
    assert find(gone).verdict == Verdict.BLOCKED
    assert find(gone, excuse_quarantined=2, minimum=80).verdict == Verdict.PASS
