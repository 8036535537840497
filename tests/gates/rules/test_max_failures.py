from apps.gates.rules.max_failures import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import (
    NOON,
    build_fact,
    facts,
    failure_fact,
    hours,
    quarantine_fact,
    report_fact,
    running_build,
)


def find(*reports, failures=(), quarantines=(), build=None, at=NOON, **parameters):
    told = facts(reports=reports, failures=failures, quarantines=quarantines, build=build or build_fact())
    return judge(told, Parameters(**parameters), at)


def red(failed=1, errors=0, **fields):
    return report_fact(failed=failed, errors=errors, passed=10 - failed - errors, **fields)


def test_no_failure_passes():
    finding = find(report_fact())
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == "0 failures and 0 errors in 10 tests; at most 0 may be."


def test_one_failure_blocks_with_the_tests_name():
    finding = find(red(), failures=(failure_fact("tests.TestPay::test_sum"),))
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence == "1 failure and 0 errors, and at most 0 may be: tests.TestPay::test_sum."
    assert finding.evidence["tests"][0]["message"] == "1 != 2"


def test_errors_count_as_failures_do():
    assert find(red(failed=0, errors=1)).verdict == Verdict.BLOCKED


def test_as_many_as_allowed_pass_and_one_more_blocks():
    assert find(red(failed=1, errors=1), maximum=2).verdict == Verdict.PASS
    assert find(red(failed=2, errors=1), maximum=2).verdict == Verdict.BLOCKED


def test_an_unknown_outcome_may_be_a_failure():
    finding = find(report_fact(passed=7, unknown=3))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert finding.sentence == (
        "0 failures and 0 errors in 10 tests, and the outcome of 3 is unknown; at most 0 may be."
    )
    assert finding.evidence["unknown"] == 3
    assert find(red(failed=1, unknown=1), maximum=2).verdict == Verdict.PASS
    assert find(red(failed=1, unknown=2), maximum=2).verdict == Verdict.INCONCLUSIVE
    assert find(red(failed=3, unknown=2), maximum=2).verdict == Verdict.BLOCKED


def test_accepted_failures_are_named_without_their_messages():
    # A decision of a thousand such builds would hold little else; its facts have them.
    finding = find(red(), failures=(failure_fact("tests.TestPay::test_sum"),), maximum=1)
    assert finding.evidence["tests"] == [
        {"name": "tests.TestPay::test_sum", "status": "FAILED", "report": "unit"}
    ]


def test_the_sentence_names_three_and_counts_the_rest():
    names = [failure_fact(f"C::test_{number}") for number in range(5)]
    finding = find(red(failed=7), failures=tuple(names))
    assert "C::test_0, C::test_1, C::test_2 and 4 more" in finding.sentence
    assert len(finding.evidence["tests"]) == 5


def test_failures_of_several_reports_add_up():
    assert find(red(name="a"), red(name="b"), maximum=1).verdict == Verdict.BLOCKED


def test_only_the_named_groups_count():
    reports = (report_fact("unit"), red(name="e2e"))
    failures = (failure_fact(report="e2e"),)
    finding = find(*reports, failures=failures, groups=("unit",))
    assert finding.verdict == Verdict.PASS
    assert finding.evidence["tests"] == []


def test_a_named_group_without_a_report_is_inconclusive():
    assert find(report_fact("unit"), groups=("unit", "e2e")).verdict == Verdict.INCONCLUSIVE


def test_too_many_in_an_incomplete_report_block_all_the_same():
    assert find(red(complete=False, parsed=None)).verdict == Verdict.BLOCKED


def test_an_incomplete_report_without_failures_is_inconclusive():
    finding = find(report_fact(complete=False, problem="truncated"))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert "truncated" in finding.sentence


def test_no_test_report_is_inconclusive_even_with_coverage():
    assert find().verdict == Verdict.INCONCLUSIVE
    assert find(report_fact("cover", type="CODE_COVERAGE")).verdict == Verdict.INCONCLUSIVE


def test_a_running_build_is_waited_for():
    assert find(build=running_build()).verdict == Verdict.WAITING_EVIDENCE


def test_a_quarantined_failure_is_excused_if_the_policy_says_so():
    known = (quarantine_fact("C::known"),)
    assert find(red(), quarantines=known).verdict == Verdict.BLOCKED
    finding = find(red(), quarantines=known, excuse_quarantined=1)
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == (
        "1 failure and 0 errors in 10 tests; at most 0 may be. Excused, since quarantined: C::known (by ben "
        "until 2026-03-07 12:00 UTC)."
    )
    (told,) = finding.evidence["excused"]
    assert (told["quarantine"], told["reason"]) == (13, "see #12")


def test_the_next_failure_is_named_and_not_the_excused_one():
    failures = (failure_fact("C::known"), failure_fact("C::new"))
    finding = find(
        red(failed=2), failures=failures, quarantines=(quarantine_fact("C::known"),), excuse_quarantined=5
    )
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence.startswith("2 failures and 0 errors, and at most 0 may be: C::new. Excused,")


def test_never_more_are_excused_than_the_policy_says():
    known = tuple(quarantine_fact(f"C::known_{number}", id=number) for number in range(4))
    assert find(red(failed=4), quarantines=known, excuse_quarantined=4).verdict == Verdict.PASS
    finding = find(red(failed=4), quarantines=known, excuse_quarantined=2)
    assert finding.verdict == Verdict.BLOCKED
    assert [told["quarantine"] for told in finding.evidence["excused"]] == [0, 1]
    assert "2 more are quarantined, and count." in finding.sentence


def test_a_quarantine_that_has_run_out_excuses_nothing():
    known = (quarantine_fact(until=NOON + hours(1)),)
    assert find(red(), quarantines=known, excuse_quarantined=1).verdict == Verdict.PASS
    late = find(red(), quarantines=known, excuse_quarantined=1, at=NOON + hours(1))
    assert late.verdict == Verdict.BLOCKED


def test_a_quarantine_excuses_nothing_in_reports_that_do_not_count():
    known = (quarantine_fact(report="e2e"),)
    finding = find(red(name="unit"), quarantines=known, excuse_quarantined=1, groups=("unit",))
    assert finding.verdict == Verdict.BLOCKED


def test_what_might_be_excused_in_a_pruned_report_is_inconclusive():
    gone = red(failed=2, pruned_at=NOON - hours(1))
    finding = find(gone, excuse_quarantined=2)
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert finding.sentence == (
        "Which tests of unit are quarantined cannot be told any more: its cases were pruned on 2026-03-01."
    )
    # Whatever they were: too many.
    assert find(gone, excuse_quarantined=1).verdict == Verdict.BLOCKED
    assert find(gone).verdict == Verdict.BLOCKED
    assert find(gone, maximum=2).verdict == Verdict.PASS
