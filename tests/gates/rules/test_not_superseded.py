from apps.gates.facts import PromotionFact, SupersededFact
from apps.gates.rules.not_superseded import NoParameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import ANN, NOON, facts

RUNS = SupersededFact(release_id=43, version="1.3.0", promotion_id=None)
WAITS = SupersededFact(release_id=44, version="1.4.0", promotion_id=12)


def find(newer, **fields):
    return judge(facts(superseded_by=newer, **fields), NoParameters(), NOON)


def test_the_newest_passes():
    assert find(None).verdict == Verdict.PASS


def test_a_newer_one_that_runs_blocks():
    finding = find(RUNS)
    assert (finding.verdict, finding.earliest) == (Verdict.BLOCKED, None)
    assert finding.sentence == "The newer release 1.3.0 runs in production already."
    assert "going back is a rollback" in finding.who


def test_a_newer_one_on_its_way_blocks_and_can_be_cancelled():
    finding = find(WAITS)
    assert finding.verdict == Verdict.BLOCKED
    assert "is on its way to production (promotion 12)" in finding.sentence
    assert "cancel promotion 12" in finding.who


def test_a_rollback_is_exempt():
    rollback = PromotionFact(id=9, requested_by=ANN, requested_at=NOON, rollback=True)
    assert find(RUNS, promotion=rollback).verdict == Verdict.PASS


def test_what_nobody_has_asked_for_is_judged_too():
    assert find(RUNS, promotion=None).verdict == Verdict.BLOCKED
