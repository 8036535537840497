import json
from dataclasses import replace

import pytest

from apps.gates.evaluate import judge
from apps.gates.facts import BundleFact, Facts, PinFact, StayFact, VetoFact, WayBackFact
from apps.gates.rules import RULES
from apps.gates.verdicts import WORST_FIRST, Verdict, worst
from tests.gates.make import (
    BEN,
    NOON,
    approval_fact,
    been,
    build_fact,
    coverage_fact,
    facts,
    failure_fact,
    health_fact,
    hours,
    report_fact,
    running_build,
    upstream_fact,
)

SOAKED = been("staging", stays=(StayFact(since=NOON - hours(2), until=None),), health=health_fact())
OPEN = WayBackFact("reversible", "", "", "1.1.0")
GOOD = facts(
    reports=(report_fact(), coverage_fact()),
    upstreams=(SOAKED,),
    approvals=(approval_fact(BEN),),
    bundle=BundleFact(checked_at=NOON, problem=""),
    health=health_fact(),
    way_back=OPEN,
    schema=OPEN,
)
EVERY_RULE = [
    {"rule": name, "parameters": {"groups": ["unit"]} if name == "required_reports" else {}} for name in RULES
]


def test_the_worst_finding_wins():
    for place, verdict in enumerate(WORST_FIRST):
        assert worst(WORST_FIRST[place:]) == verdict
    assert worst([]) == Verdict.INCONCLUSIVE


def test_without_rules_the_gate_is_shut():
    verdict, findings = judge(rules=[], facts=GOOD, at=NOON)
    assert verdict == Verdict.INCONCLUSIVE
    assert findings[0].sentence == "The policy of production has no rules, so nothing passes."


def test_every_rule_passes_for_a_good_release_and_says_its_name():
    verdict, findings = judge(rules=EVERY_RULE, facts=GOOD, at=NOON)
    assert verdict == Verdict.PASS
    assert [finding.rule for finding in findings] == list(RULES)


def test_a_rule_of_a_later_version_is_inconclusive():
    verdict, findings = judge(rules=[{"rule": "phase_of_moon"}], facts=GOOD, at=NOON)
    assert verdict == Verdict.INCONCLUSIVE
    assert "phase_of_moon" in findings[0].sentence


def test_a_parameter_of_a_later_version_is_inconclusive():
    rules = [{"rule": "approved", "parameters": {"phase_of_moon": "full"}}]
    verdict, _ = judge(rules=rules, facts=GOOD, at=NOON)
    assert verdict == Verdict.INCONCLUSIVE


def test_findings_are_plain_json():
    for told in (GOOD, facts(build=running_build(), upstreams=(upstream_fact(promotion_at=NOON),))):
        _, findings = judge(rules=EVERY_RULE, facts=told, at=NOON)
        plain = [finding.to_json() for finding in findings]
        assert json.loads(json.dumps(plain)) == plain


@pytest.mark.parametrize(
    "told",
    [
        GOOD,
        facts(build=None, promotion=None, reports=()),
        facts(build=running_build(), failures=(failure_fact(),), reports=(report_fact(parsed=None),)),
        facts(build=build_fact(deviations=("one", "two"))),
    ],
)
def test_facts_survive_json_and_give_the_same_verdict_again(told):
    again = Facts.from_json(json.loads(json.dumps(told.to_json())))
    assert again == told
    assert hash(again) == hash(told)
    assert judge(rules=EVERY_RULE, facts=again, at=NOON) == judge(rules=EVERY_RULE, facts=told, at=NOON)


def test_facts_of_a_later_version_are_read_and_damaged_ones_are_not():
    data = GOOD.to_json()
    assert Facts.from_json(data | {"weather": "fine"}) == GOOD
    with pytest.raises(ValueError, match=r"facts: reports is missing"):
        Facts.from_json({key: value for key, value in data.items() if key != "reports"})
    with pytest.raises(ValueError, match=r"facts.release_id: int is expected, not '42'"):
        Facts.from_json(data | {"release_id": "42"})
    with pytest.raises(ValueError, match=r"facts.build.id: int is expected"):
        Facts.from_json(data | {"build": data["build"] | {"id": True}})


def test_facts_of_an_older_decision_can_still_be_read():
    told = facts().to_json()
    for name in ("running", "bundle", "way_back", "health", "windows", "pin", "vetoes", "overrides"):
        del told[name]
    for report in told["reports"]:
        del report["lines_covered"], report["lines_total"]
    assert Facts.from_json(told) == facts()


def test_pins_and_vetoes_count_without_a_rule_that_names_them():
    """A policy from before there were such rules must not overhear a person's no."""
    pin = PinFact(id=4, release_id=41, version="1.1.0", reason="Stay.", by=BEN, at=NOON, expires_at=None)
    veto = VetoFact(id=6, environment="", reason="No.", by=BEN, at=NOON)
    told = replace(GOOD, pin=pin, vetoes=(veto,))
    verdict, findings = judge(rules=[{"rule": "approved"}], facts=told, at=NOON)
    assert verdict == Verdict.BLOCKED
    assert [(each.rule, each.verdict) for each in findings] == [
        ("approved", "pass"),
        ("not_pinned", "blocked"),
        ("not_vetoed", "blocked"),
    ]
    rules = [{"rule": "not_vetoed"}, {"rule": "not_pinned"}]
    assert [each.rule for each in judge(rules=rules, facts=told, at=NOON)[1]] == ["not_vetoed", "not_pinned"]
    assert judge(rules=[], facts=told, at=NOON)[1][0].rule == "policy"
