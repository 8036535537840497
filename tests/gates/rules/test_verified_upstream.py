from apps.gates.rules.verified_upstream import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, been, facts, hours, upstream_fact


def find(*upstreams, mode="all", at=NOON):
    told = facts(upstreams=upstreams, upstream_mode=mode)
    return judge(told, Parameters(wait_minutes=60), at)


def coming(slug="staging", since=NOON):
    return upstream_fact(slug, promotion_id=4, promotion_at=since)


def test_current_upstream_passes():
    finding = find(been("staging"))
    assert finding.verdict == Verdict.PASS
    assert finding.evidence["upstreams"][0]["deployment"] == 11


def test_having_been_there_is_enough():
    assert find(been("staging", until=NOON - hours(1))).verdict == Verdict.PASS


def test_never_there_blocks_and_says_what_to_do():
    finding = find(upstream_fact("staging"))
    assert finding.verdict == Verdict.BLOCKED
    assert (
        finding.sentence == "1.2.0 has never been deployed to staging with success: promote it there first."
    )


def test_all_needs_every_upstream():
    finding = find(been("north"), upstream_fact("south"))
    assert finding.verdict == Verdict.BLOCKED
    assert "south" in finding.sentence
    assert "north" not in finding.sentence


def test_any_needs_one():
    assert find(been("north"), upstream_fact("south"), mode="any").verdict == Verdict.PASS
    finding = find(upstream_fact("north"), upstream_fact("south"), mode="any")
    assert finding.verdict == Verdict.BLOCKED
    assert "north or south" in finding.sentence


def test_on_its_way_upstream_is_waited_for_and_not_for_ever():
    assert find(coming()).verdict == Verdict.WAITING_EVIDENCE
    assert find(coming(), at=NOON + hours(0.99)).verdict == Verdict.WAITING_EVIDENCE
    assert find(coming(), at=NOON + hours(1)).verdict == Verdict.INCONCLUSIVE


def test_on_its_way_to_one_of_two_is_enough_for_any_and_not_for_all():
    both = (coming("north"), upstream_fact("south"))
    assert find(*both, mode="any").verdict == Verdict.WAITING_EVIDENCE
    assert find(*both, mode="all").verdict == Verdict.BLOCKED


def test_without_upstreams_it_is_inconclusive():
    assert find().verdict == Verdict.INCONCLUSIVE
