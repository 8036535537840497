from dataclasses import replace

import pytest

from apps.gates.evaluate import judge as judge_all
from apps.gates.facts import OverrideFact, PersonFact, VetoFact
from apps.gates.outlook import look_ahead
from apps.gates.rules.override import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import BEN, CEM, NOON, approval_fact, facts, hours, upstream_fact

OLGA = PersonFact(id=21, username="olga")
OMAR = PersonFact(id=22, username="omar")
APPROVED = {"rule": "approved"}
UPSTREAM = {"rule": "verified_upstream"}
SECOND = {"rule": "override", "parameters": {"second_person": True}}
# What is not met in these tests.
WAITS = {"upstreams": (upstream_fact(),)}


def override(**fields):
    """olga's, given half an hour ago for an hour, against everything."""
    defaults = {
        "id": 8,
        "rules": (),
        "justification": "The site is down.",
        "by": OLGA,
        "at": NOON - hours(0.5),
        "expires_at": NOON + hours(0.5),
        "seconded_by": None,
        "counts": True,
    }
    return OverrideFact(**{**defaults, **fields})


def find(*overrides, **parameters):
    return judge(facts(overrides=overrides), Parameters(**parameters), NOON)


def verdicts(*rules, at=NOON, **fields):
    verdict, findings = judge_all(rules=rules, facts=facts(**WAITS, **fields), at=at)
    return str(verdict), {finding.rule: str(finding.verdict) for finding in findings}


def test_without_an_override_it_passes():
    finding = find()
    assert (finding.verdict, finding.sentence) == (Verdict.PASS, "Nobody overrides this gate.")


def test_one_that_stands_says_who_until_when_against_what_and_why():
    finding = find(override(rules=("approved",)))
    assert finding.verdict == Verdict.OVERRIDDEN
    assert finding.sentence == ("Overridden by olga until 2026-03-01 12:30 UTC (approved): The site is down.")
    assert "(all rules but bundle_intact, not_vetoed)" in find(override()).sentence


def test_a_second_person_is_waited_for_where_the_policy_asks_for_one():
    finding = find(override(), second_person=True)
    assert finding.verdict == Verdict.WAITING_HUMAN
    assert finding.who == "an operator of shop other than olga: second override 8"
    seconded = find(override(seconded_by=OMAR), second_person=True)
    assert seconded.verdict == Verdict.OVERRIDDEN
    assert seconded.sentence.startswith("Overridden by olga and omar until ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expires_at": NOON}, "ended 2026-03-01 12:00 UTC"),
        ({"counts": False}, "counts no longer: somebody who gave it is no operator now"),
    ],
)
def test_one_that_has_ended_counts_no_longer_and_says_why(change, words):
    finding = find(override(**change))
    assert finding.verdict == Verdict.PASS
    assert words in finding.sentence


def test_a_policy_that_has_become_stricter_shortens_it():
    assert find(override(), maximum_minutes=31).verdict == Verdict.OVERRIDDEN
    assert find(override(), maximum_minutes=30).verdict == Verdict.PASS


def test_what_it_covers_says_what_it_said_as_overridden():
    told = facts(overrides=(override(),), **WAITS)
    before = judge_all(rules=[APPROVED], facts=replace(told, overrides=()), at=NOON)[1][0]
    verdict, (finding, itself) = judge_all(rules=[APPROVED], facts=told, at=NOON)
    assert verdict == Verdict.OVERRIDDEN
    assert (finding.verdict, finding.sentence) == (Verdict.OVERRIDDEN, before.sentence)
    assert finding.evidence["overridden"] == {
        "override": 8,
        "by": "olga",
        "verdict": "waiting_human",
        "who": before.who,
    }
    assert finding.evidence["required"] == before.evidence["required"]
    assert (itself.rule, itself.verdict) == ("override", Verdict.OVERRIDDEN)


def test_it_covers_only_what_it_names():
    named = override(rules=("approved",))
    verdict, each = verdicts(APPROVED, UPSTREAM, overrides=(named,))
    assert verdict == "blocked"
    assert each == {"approved": "overridden", "verified_upstream": "blocked", "override": "overridden"}
    other = override(id=9, by=OMAR, rules=("verified_upstream",))
    assert verdicts(APPROVED, UPSTREAM, overrides=(named, other))[0] == "overridden"


def test_a_veto_has_to_be_named():
    vetoes = (VetoFact(id=6, environment="", reason="No.", by=BEN, at=NOON - hours(1)),)
    verdict, each = verdicts(APPROVED, overrides=(override(),), vetoes=vetoes)
    assert (verdict, each["approved"], each["not_vetoed"]) == ("blocked", "overridden", "blocked")
    named = override(rules=("approved", "not_vetoed"))
    assert verdicts(APPROVED, overrides=(named,), vetoes=vetoes)[0] == "overridden"


def test_what_passes_by_itself_is_a_pass_and_not_an_override():
    approvals = (approval_fact(BEN), approval_fact(CEM))
    verdict, each = verdicts(APPROVED, overrides=(override(),), approvals=approvals)
    assert (verdict, each["override"]) == ("pass", "pass")
    verdict, each = verdicts(APPROVED, SECOND, overrides=(override(),), approvals=approvals)
    assert (verdict, each["override"]) == ("pass", "pass")


def test_one_that_waits_for_its_second_person_lets_nothing_pass():
    verdict, each = verdicts(UPSTREAM, SECOND, overrides=(override(),))
    assert (verdict, each) == ("blocked", {"verified_upstream": "blocked", "override": "waiting_human"})


def test_of_several_limits_all_have_to_be_kept():
    short = {"rule": "override", "parameters": {"maximum_minutes": 20}}
    long = {"rule": "override", "parameters": {"maximum_minutes": 600}}
    assert verdicts(UPSTREAM, long, overrides=(override(),))[0] == "overridden"
    assert verdicts(UPSTREAM, long, short, overrides=(override(),))[0] == "blocked"


def test_limits_that_cannot_be_read_let_nothing_pass():
    later = {"rule": "override", "parameters": {"phase_of_moon": "full"}}
    verdict, each = verdicts(UPSTREAM, later, overrides=(override(rules=("override",)),))
    assert (verdict, each["override"]) == ("blocked", "inconclusive")


def test_a_gate_without_rules_stays_shut():
    assert verdicts(overrides=(override(),))[0] == "inconclusive"


def test_when_it_ends_the_rest_counts_again():
    told = {"overrides": (override(),)}
    assert verdicts(APPROVED, **told)[0] == "overridden"
    assert verdicts(APPROVED, at=NOON + hours(1), **told)[0] == "waiting_human"


def test_looking_ahead_it_opens_the_gate_only_while_it_stands():
    def ahead(*rules, **fields):
        return look_ahead(rules=rules, facts=facts(**fields), at=NOON)

    assert ahead(APPROVED, overrides=(override(),)).earliest == NOON
    unseconded = ahead(APPROVED, SECOND, overrides=(override(),))
    assert (unseconded.earliest, unseconded.not_before) == (None, NOON)
    blocked = ahead(UPSTREAM, SECOND, overrides=(override(),), **WAITS)
    assert (blocked.earliest, blocked.not_before) == (None, None)
