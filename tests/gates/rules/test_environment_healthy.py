import pytest

from apps.gates.rules.environment_healthy import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, facts, health_fact, hours


def find(state=None, at=NOON, **fields):
    health = health_fact(state=state, **fields) if state else None
    return judge(facts(health=health), Parameters(wait_minutes=60), at)


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ("healthy", Verdict.PASS),
        ("empty", Verdict.PASS),
        ("unhealthy", Verdict.BLOCKED),
        ("mixed", Verdict.BLOCKED),
        ("unknown", Verdict.INCONCLUSIVE),
        ("something-of-a-later-version", Verdict.INCONCLUSIVE),
        (None, Verdict.INCONCLUSIVE),
    ],
)
def test_each_state_has_its_verdict(state, verdict):
    assert find(state).verdict == verdict


def test_it_says_why_and_the_way_out():
    finding = find("unhealthy", reason="Deployment d-2 of 1.3.0 is failed.")
    assert finding.sentence == (
        "production is not healthy since 2026-03-01 10:00 UTC. Deployment d-2 of 1.3.0 is failed."
    )
    assert "an operator of shop" in finding.who
    assert "rollback" in finding.who
    assert finding.evidence["deployment"] == 12
    assert "runs several releases" in find("mixed").sentence


def test_a_deployment_under_way_is_waited_for_and_not_for_ever():
    since = NOON - hours(0.5)
    finding = find("changing", since=since)
    assert (finding.verdict, finding.who) == (Verdict.WAITING_EVIDENCE, "CodeDeploy")
    assert find("changing", since=since, at=NOON + hours(0.5)).verdict == Verdict.INCONCLUSIVE
