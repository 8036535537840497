from apps.gates.facts import PinFact
from apps.gates.rules.not_pinned import NoParameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import BEN, NOON, facts, hours


def pinned(**fields):
    defaults = {"id": 4, "release_id": 41, "version": "1.1.0", "reason": "Black Friday.", "by": BEN}
    return PinFact(**{**defaults, "at": NOON - hours(1), "expires_at": None, **fields})


def find(pin):
    return judge(facts(pin=pin), NoParameters(), NOON)


def test_without_a_pin_it_passes():
    assert find(None).verdict == Verdict.PASS


def test_another_release_is_blocked_until_somebody_lifts_it():
    finding = find(pinned())
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence == "ben holds production at 1.1.0: Black Friday."
    assert finding.who == "an operator of shop: lift pin 4"
    assert finding.earliest is None
    assert finding.evidence["pin"] == 4


def test_a_pin_with_an_end_names_it_and_holds_nothing_from_then_on():
    finding = find(pinned(expires_at=NOON + hours(2)))
    assert (finding.verdict, finding.earliest) == (Verdict.BLOCKED, NOON + hours(2))
    assert find(pinned(expires_at=NOON)).verdict == Verdict.PASS


def test_the_release_that_it_is_held_at_may_go_there():
    finding = find(pinned(release_id=42))
    assert finding.verdict == Verdict.PASS
    assert "held at this very release" in finding.sentence
