from datetime import timedelta

import pytest

from apps.gates.facts import StayFact
from apps.gates.rules.soak import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, been, facts, health_fact, hours, upstream_fact


def stay(since, until=None):
    """From so many hours before noon until so many; open without."""
    return StayFact(since=NOON - hours(since), until=None if until is None else NOON - hours(until))


def stayed(slug, *stays, **fields):
    return been(slug, **{"stays": stays, "health": health_fact(), **fields})


def find(*upstreams, mode="all", at=NOON, **parameters):
    told = facts(upstreams=upstreams, upstream_mode=mode)
    return judge(told, Parameters(**{"minutes": 120, "wait_minutes": 60, **parameters}), at)


def test_an_open_stay_passes_once_it_is_long_enough():
    staging = stayed("staging", stay(1))
    finding = find(staging)
    assert finding.verdict == Verdict.WAITING_TIME
    assert finding.earliest == NOON + hours(1)
    assert finding.sentence == (
        "1.2.0 is healthy in staging since 2026-03-01 11:00 UTC, and must be for 2 hours: "
        "until 2026-03-01 13:00 UTC."
    )
    moment = timedelta(microseconds=1)
    assert find(staging, at=NOON + hours(1) - moment).verdict == Verdict.WAITING_TIME
    assert find(staging, at=NOON + hours(1)).verdict == Verdict.PASS


def test_a_stay_is_kept_when_the_release_leaves():
    finding = find(stayed("staging", stay(9, 7), until=NOON - hours(7)))
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == "1.2.0 was healthy in staging for at least 2 hours."


def test_leaving_too_early_is_not_mended_by_the_time_since():
    # Two promotions in a row: the first release is long gone when it is asked for further down.
    finding = find(stayed("staging", stay(48, 47.9), until=NOON - hours(47.9)))
    assert finding.verdict == Verdict.BLOCKED
    assert "less than 2 hours, until 2026-02-27 12:06 UTC" in finding.sentence
    assert finding.sentence.endswith("deploy it there again.")
    assert finding.earliest is None


def test_short_stays_do_not_add_up():
    short = [stay(9, 8), stay(7, 6), stay(5, 4)]
    assert find(stayed("staging", *short, until=NOON - hours(4))).verdict == Verdict.BLOCKED
    # And a new one counts from its own begin.
    assert find(stayed("staging", *short, stay(1))).earliest == NOON + hours(1)


def test_the_longest_counts_wherever_it_stands():
    assert find(stayed("staging", stay(9, 6), stay(1))).verdict == Verdict.PASS


def test_a_stay_that_a_failure_ended_says_so():
    sick = health_fact(state="unhealthy", reason="Deployment d-2 of 1.3.0 is failed.")
    finding = find(stayed("staging", stay(1, 0.5), health=sick))
    assert finding.verdict == Verdict.BLOCKED
    assert "(Deployment d-2 of 1.3.0 is failed)" in finding.sentence


def test_unknown_health_is_inconclusive_unless_it_was_long_enough_before():
    unknown = health_fact(state="unknown", reason="Deployment d-3 brought something else.")
    finding = find(stayed("staging", stay(1, 0.5), health=unknown))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert "d-3" in finding.sentence
    assert find(stayed("staging", stay(9, 0.5), health=unknown)).verdict == Verdict.PASS


def test_facts_from_before_there_were_stays_are_inconclusive():
    assert find(been("staging")).verdict == Verdict.INCONCLUSIVE


def test_never_there_blocks():
    finding = find(upstream_fact("staging"))
    assert finding.verdict == Verdict.BLOCKED
    assert "promote it there first" in finding.sentence


@pytest.mark.parametrize("there", [{}, {"since": NOON - hours(9), "stays": (stay(9, 8.5),)}])
def test_on_its_way_there_is_waited_for_and_not_for_ever(there):
    coming = upstream_fact("staging", promotion_id=4, promotion_at=NOON, **there)
    finding = find(coming)
    assert finding.verdict == Verdict.WAITING_EVIDENCE
    assert (finding.earliest, finding.takes) == (None, hours(2))
    assert find(coming, at=NOON + hours(1)).verdict == Verdict.INCONCLUSIVE


def test_all_waits_for_the_last_and_any_for_the_first():
    north, south = stayed("north", stay(1)), stayed("south", stay(0.5))
    assert find(north, south).earliest == NOON + hours(1.5)
    assert find(north, south, mode="any").earliest == NOON + hours(1)
    long = stayed("long", stay(5))
    assert find(north, long).verdict == Verdict.WAITING_TIME
    assert find(north, long, mode="any").verdict == Verdict.PASS
    never = upstream_fact("never")
    assert find(north, never).verdict == Verdict.BLOCKED
    finding = find(north, never, mode="any")
    assert finding.verdict == Verdict.WAITING_TIME
    assert "never" not in finding.sentence


def test_it_may_be_about_some_upstreams_only():
    north, south = stayed("north", stay(5)), stayed("south", stay(0.5))
    assert find(north, south, upstreams=("north",)).verdict == Verdict.PASS
    assert find(north, south, upstreams=("south",)).earliest == NOON + hours(1.5)
    finding = find(north, upstreams=("north", "west"))
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert "not promoted from west" in finding.sentence


def test_without_upstreams_it_is_inconclusive():
    assert find().verdict == Verdict.INCONCLUSIVE


def test_lengths_are_told_as_people_say_them():
    for minutes, words in ((1, "1 minute:"), (90, "90 minutes"), (60, "1 hour:"), (2880, "2 days")):
        assert f"must be for {words}" in find(stayed("staging", stay(0)), minutes=minutes).sentence
