"""When a gate could open, with rules that wait for time, for people and for evidence."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from apps.gates import evaluate
from apps.gates.facts import Facts, PinFact, StayFact
from apps.gates.outlook import look_ahead
from apps.gates.parameters import NoParameters
from apps.gates.rules.base import Rule
from apps.gates.verdicts import Finding, Verdict
from tests.gates.make import (
    BEN,
    NOON,
    approval_fact,
    been,
    facts,
    health_fact,
    hours,
    upstream_fact,
    window_fact,
)

APPROVED = {"rule": "approved", "parameters": {}}
MAX_FAILURES = {"rule": "max_failures", "parameters": {}}
SOAK = {"rule": "soak", "parameters": {"minutes": 180}}
IN_WINDOW = {"rule": "in_window", "parameters": {}}
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


# Every night from 22:00 to 23:00, which is ten hours after noon.
NIGHTS = window_fact("2026-01-01T22:00", 60, "FREQ=DAILY")
LUNCH = window_fact("2026-01-01T12:00", 120, "FREQ=DAILY", id=9, name="lunch")


def soaking(since=NOON, **fields):
    stays = (StayFact(since=since, until=None),)
    return been("staging", **{"stays": stays, "health": health_fact(), **fields})


def test_a_soak_that_ends_in_a_closed_window_waits_for_the_next_opening():
    # Lunch is open now, and shut by the time the soak is over.
    outlook = ahead(SOAK, IN_WINDOW, upstreams=(soaking(),), windows=(LUNCH, NIGHTS))
    assert outlook.earliest == outlook.not_before == NOON + hours(10)


def test_a_soak_that_ends_in_an_open_window_is_all_there_is_to_wait_for():
    outlook = ahead(SOAK, IN_WINDOW, upstreams=(soaking(NOON - hours(1.5)),), windows=(LUNCH, NIGHTS))
    assert outlook.earliest == NOON + hours(1.5)


def test_a_window_that_opens_after_the_soak_is_what_counts():
    freeze = window_fact("2026-03-01T00:00", 60 * 24 * 10, kind="deny", id=10, name="freeze")
    outlook = ahead(SOAK, IN_WINDOW, upstreams=(soaking(),), windows=(LUNCH, NIGHTS, freeze))
    # The freeze ends at midnight, and the next that opens is lunch.
    assert outlook.earliest == NOON + timedelta(days=10)


def test_soak_window_and_a_person_together():
    fields = {"upstreams": (soaking(),), "windows": (NIGHTS,)}
    outlook = ahead(APPROVED, SOAK, IN_WINDOW, **fields)
    assert (outlook.earliest, outlook.not_before) == (None, NOON + hours(10))
    given = ahead(APPROVED, SOAK, IN_WINDOW, approvals=(approval_fact(BEN),), **fields)
    assert given.earliest == NOON + hours(10)


def test_a_soak_that_has_not_begun_takes_its_time():
    coming = upstream_fact("staging", promotion_id=4, promotion_at=NOON)
    outlook = ahead(SOAK, upstreams=(coming,))
    assert (outlook.earliest, outlook.not_before) == (None, NOON + hours(3))
    # At three o'clock lunch is over.
    outlook = ahead(SOAK, IN_WINDOW, upstreams=(coming,), windows=(LUNCH, NIGHTS))
    assert outlook.not_before == NOON + hours(10)


def test_evidence_that_grows_old_in_a_soak_that_has_not_begun_is_told():
    coming = upstream_fact("staging", promotion_id=4, promotion_at=NOON)
    age = {"rule": "evidence_age", "parameters": {"maximum_hours": 2}}
    outlook = ahead(age, SOAK, upstreams=(coming,))
    assert outlook.not_before is None
    assert [finding.rule for finding in outlook.by_then] == ["evidence_age"]


def test_a_year_without_an_opening_has_no_time():
    over = window_fact("2026-01-01T22:00", 60)
    outlook = ahead(SOAK, IN_WINDOW, upstreams=(soaking(),), windows=(over,))
    assert (outlook.earliest, outlook.not_before) == (None, None)
