from apps.gates.rules.built_as_defined import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, build_fact, facts, hours, running_build


def find(build, at=NOON, **parameters):
    return judge(facts(build=build), Parameters(**parameters), at)


def test_a_build_that_succeeded_as_defined_passes():
    finding = find(build_fact())
    assert finding.verdict == Verdict.PASS
    assert finding.evidence["build"] == 7
    assert finding.evidence["log_url"] == "https://logs.example/7"


def test_each_way_to_end_badly_blocks_and_is_named():
    for status in ("FAILED", "FAULT", "STOPPED", "TIMED_OUT"):
        finding = find(build_fact(status=status, deviations=None, collected_at=None))
        assert finding.verdict == Verdict.BLOCKED
        assert status in finding.sentence


def test_a_deviation_blocks_and_is_named():
    finding = find(build_fact(deviations=("buildspec was overridden", "image is another")))
    assert finding.verdict == Verdict.BLOCKED
    assert "buildspec was overridden; image is another" in finding.sentence


def test_a_running_build_is_waited_for():
    finding = find(running_build())
    assert finding.verdict == Verdict.WAITING_EVIDENCE
    assert finding.who == "CodeBuild"


def test_a_build_that_runs_too_long_is_inconclusive():
    build = running_build(registered_at=NOON - hours(2))
    assert find(build, wait_minutes=120).verdict == Verdict.INCONCLUSIVE
    assert find(build, wait_minutes=121).verdict == Verdict.WAITING_EVIDENCE


def test_an_ended_build_is_waited_for_from_its_end():
    build = build_fact(registered_at=NOON - hours(9), collected_at=None, deviations=None)
    assert find(build, wait_minutes=31).verdict == Verdict.WAITING_EVIDENCE
    assert find(build, wait_minutes=30).verdict == Verdict.INCONCLUSIVE


def test_a_build_that_could_not_be_compared_is_inconclusive():
    finding = find(build_fact(deviations=None, problem="the project is gone"))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert "the project is gone" in finding.sentence


def test_no_build_is_inconclusive():
    assert find(None).verdict == Verdict.INCONCLUSIVE
