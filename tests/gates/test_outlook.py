"""When a gate could open, with rules that wait for time, for people and for evidence."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from apps.gates import evaluate
from apps.gates.facts import Facts, PinFact
from apps.gates.outlook import look_ahead
from apps.gates.parameters import NoParameters
from apps.gates.rules.base import Rule
from apps.gates.verdicts import Finding, Verdict
from tests.gates.make import BEN, NOON, approval_fact, facts, hours

APPROVED = {"rule": "approved", "parameters": {}}
MAX_FAILURES = {"rule": "max_failures", "parameters": {}}
AGE = {"rule": "evidence_age", "parameters": {"maximum_hours": 4}}


def soak(length: timedelta):
    """Passes once ``length`` has gone by since noon."""

    def judge(facts: Facts, parameters: NoParameters, at: datetime) -> Finding:
        over = NOON + length
        if at >= over:
            return Finding(Verdict.PASS, "Soaked.")
        return Finding(Verdict.WAITING_TIME, "Soaks.", earliest=over)

    return judge


def window(*opens: tuple[float, float]):
    """Open from and until so many hours after noon."""

    def judge(facts: Facts, parameters: NoParameters, at: datetime) -> Finding:
        for start, end in opens:
            if at < NOON + hours(start):
                return Finding(Verdict.WAITING_TIME, "Shut.", earliest=NOON + hours(start))
            if at < NOON + hours(end):
                return Finding(Verdict.PASS, "Open.")
        return Finding(Verdict.BLOCKED, "Never open again.")

    return judge


@pytest.fixture
def rule(monkeypatch):
    """Give the gates a rule that only this test has, and name it as a policy does."""

    def add(name, judge):
        monkeypatch.setitem(evaluate.RULES, name, Rule(name, NoParameters, judge))
        return {"rule": name, "parameters": {}}

    return add


def ahead(*rules, at=NOON, **fields):
    return look_ahead(rules=rules, facts=facts(**fields), at=at)


def test_what_passes_now_passes_now():
    assert ahead(MAX_FAILURES).earliest == NOON


def test_the_latest_of_the_times_counts(rule):
    outlook = ahead(rule("soak", soak(hours(3))), rule("window", window((1, 9))), MAX_FAILURES)
    assert outlook.earliest == outlook.not_before == NOON + hours(3)


def test_a_window_that_shuts_before_the_soak_is_over_does_not_count(rule):
    outlook = ahead(rule("soak", soak(hours(3))), rule("window", window((1, 2), (7, 8))))
    assert outlook.earliest == NOON + hours(7)


def test_windows_and_soaks_may_take_turns_for_a_while(rule):
    even = rule("even", window(*((hour, hour + 0.5) for hour in range(2, 40, 4))))
    odd = rule("odd", window(*((hour, hour + 0.5) for hour in range(4, 40, 6))))
    assert ahead(even, odd).earliest == NOON + hours(10)


def test_a_person_who_is_missing_leaves_the_time_that_nobody_can_hasten(rule):
    outlook = ahead(APPROVED, rule("soak", soak(hours(3))))
    assert outlook.earliest is None
    assert outlook.not_before == NOON + hours(3)
    given = ahead(APPROVED, rule("soak", soak(hours(3))), approvals=(approval_fact(BEN),))
    assert given.earliest == NOON + hours(3)


def test_only_a_person_missing_means_at_once():
    outlook = ahead(APPROVED)
    assert (outlook.earliest, outlook.not_before) == (None, NOON)


def test_what_waiting_does_not_mend_has_no_time(rule):
    outlook = ahead(rule("never", window()), rule("soak", soak(hours(3))))
    assert (outlook.earliest, outlook.not_before, outlook.by_then) == (None, None, ())


def test_what_will_stand_against_it_by_then_is_told(rule):
    outlook = ahead(AGE, rule("soak", soak(hours(6))))
    assert (outlook.earliest, outlook.not_before) == (None, None)
    (finding,) = outlook.by_then
    assert (finding.rule, finding.verdict) == ("evidence_age", Verdict.BLOCKED)


def test_a_rule_that_promises_what_it_does_not_keep_ends_the_search(rule):
    def liar(facts, parameters, at):
        return Finding(Verdict.WAITING_TIME, "Soon.", earliest=at)

    def runaway(facts, parameters, at):
        return Finding(Verdict.WAITING_TIME, "Later.", earliest=at + hours(1))

    assert ahead(rule("liar", liar)).earliest is None
    assert ahead(rule("runaway", runaway)).earliest is None


def test_a_gate_without_rules_stays_shut():
    outlook = ahead()
    assert (outlook.earliest, outlook.not_before) == (None, None)


def test_a_pin_with_an_end_is_waited_for_like_a_soak(rule):
    pin = PinFact(1, 41, "1.1.0", "Stay.", BEN, NOON, expires_at=NOON + hours(2))
    assert ahead(MAX_FAILURES, pin=pin).earliest == NOON + hours(2)
    assert ahead(MAX_FAILURES, rule("soak", soak(hours(3))), pin=pin).earliest == NOON + hours(3)
    assert ahead(MAX_FAILURES, pin=replace(pin, expires_at=None)).not_before is None
    assert ahead(APPROVED, pin=pin).not_before == NOON + hours(2)
