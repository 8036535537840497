from apps.gates.rules.max_duration import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, build_fact, facts, report_fact, running_build

SECOND = 1_000_000_000


def find(*reports, build=None, **parameters):
    return judge(facts(reports=reports, build=build or build_fact()), Parameters(**parameters), NOON)


def test_as_long_as_accepted_passes():
    finding = find(report_fact(duration_ns=60 * SECOND), seconds=60)
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == "The tests took 60.0 s; at most 60 s are accepted."


def test_a_nanosecond_more_blocks_and_the_sentence_does_not_contradict_itself():
    finding = find(report_fact(duration_ns=60 * SECOND + 1), seconds=60)
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence == "The tests took 60.1 s, and at most 60 s are accepted."


def test_reports_are_added_up_and_only_named_groups_count():
    reports = (report_fact("unit", duration_ns=40 * SECOND), report_fact("e2e", duration_ns=30 * SECOND))
    assert find(*reports, seconds=60).verdict == Verdict.BLOCKED
    assert find(*reports, seconds=60, groups=("unit",)).verdict == Verdict.PASS


def test_what_is_not_known_is_inconclusive():
    assert find(report_fact(duration_ns=None)).verdict == Verdict.INCONCLUSIVE
    assert find().verdict == Verdict.INCONCLUSIVE
    assert find(report_fact(complete=False)).verdict == Verdict.INCONCLUSIVE
    assert find(report_fact(), groups=("unit", "e2e")).verdict == Verdict.INCONCLUSIVE


def test_a_running_build_is_waited_for():
    assert find(build=running_build()).verdict == Verdict.WAITING_EVIDENCE
