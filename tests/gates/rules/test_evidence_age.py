from datetime import timedelta

from apps.gates.rules.evidence_age import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, build_fact, facts, hours, report_fact, running_build

ONE_REPORT = (report_fact(),)


def find(build, at=NOON, reports=ONE_REPORT, **parameters):
    return judge(facts(build=build, reports=reports), Parameters(**parameters), at)


def ended(ago, **fields):
    return build_fact(registered_at=NOON - hours(ago + 1), finished_at=NOON - hours(ago), **fields)


def test_recent_evidence_passes_and_says_until_when():
    finding = find(ended(2), maximum_hours=24)
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == (
        "Build project:7 ended at 2026-03-01 10:00 UTC; "
        "its evidence counts for 24 hours, until 2026-03-02 10:00 UTC."
    )
    assert finding.evidence["counts_until"] == "2026-03-02T10:00:00+00:00"


def test_old_evidence_blocks_and_a_new_build_mends_it():
    finding = find(ended(25), maximum_hours=24)
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence == (
        "Build project:7 ended at 2026-02-28 11:00 UTC; "
        "its evidence counted for 24 hours, until 2026-03-01 11:00 UTC."
    )
    assert finding.who == "a developer of shop, by a new build"
    assert finding.earliest is None


def test_it_counts_to_the_last_moment_and_no_longer():
    assert find(ended(24), maximum_hours=24).verdict == Verdict.PASS
    late = NOON + timedelta(microseconds=1)
    assert find(ended(24), at=late, maximum_hours=24).verdict == Verdict.BLOCKED


def test_age_runs_from_the_end_and_not_from_the_reading():
    build = ended(25, collected_at=NOON - hours(0.1))
    assert find(build, maximum_hours=24).verdict == Verdict.BLOCKED


def test_old_evidence_that_was_not_read_blocks_instead_of_waiting():
    build = ended(2, collected_at=None)
    assert find(build, maximum_hours=1, wait_minutes=600).verdict == Verdict.BLOCKED
    assert find(build, maximum_hours=3, wait_minutes=600).verdict == Verdict.WAITING_EVIDENCE


def test_a_running_build_is_waited_for_and_not_for_ever():
    build = running_build(registered_at=NOON - hours(2))
    assert find(build, wait_minutes=121).verdict == Verdict.WAITING_EVIDENCE
    assert find(build, wait_minutes=120).verdict == Verdict.INCONCLUSIVE


def test_an_unknown_end_is_inconclusive():
    assert find(build_fact(finished_at=None)).verdict == Verdict.INCONCLUSIVE


def test_incomplete_evidence_is_inconclusive_and_named():
    finding = find(ended(2), reports=(report_fact(), report_fact("e2e", complete=False, problem="truncated")))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert "e2e (truncated)" in finding.sentence
    assert [report["name"] for report in finding.evidence["reports"]] == ["e2e"]


def test_no_report_is_inconclusive():
    assert find(ended(2), reports=()).verdict == Verdict.INCONCLUSIVE


def test_no_build_is_inconclusive():
    assert find(None).verdict == Verdict.INCONCLUSIVE
