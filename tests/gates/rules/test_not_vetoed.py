from apps.gates.facts import VetoFact
from apps.gates.rules.not_vetoed import NoParameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import BEN, CEM, NOON, facts, hours


def veto(number=6, **fields):
    defaults = {"environment": "production", "reason": "It loses orders.", "by": BEN, "at": NOON - hours(1)}
    return VetoFact(id=number, **{**defaults, **fields})


def find(*vetoes):
    return judge(facts(vetoes=vetoes), NoParameters(), NOON)


def test_without_a_veto_it_passes():
    assert find().verdict == Verdict.PASS


def test_a_veto_blocks_and_says_who_gave_it_and_who_can_lift_it():
    finding = find(veto())
    assert (finding.verdict, finding.earliest) == (Verdict.BLOCKED, None)
    assert finding.sentence == "ben vetoed it for production: It loses orders."
    assert finding.who == "an approver or operator of shop: lift veto 6"


def test_each_of_several_is_told():
    finding = find(veto(), veto(7, environment="", reason="No licence", by=CEM))
    assert finding.sentence == (
        "ben vetoed it for production: It loses orders; cem vetoed it for every environment: No licence."
    )
    assert finding.who.endswith("lift veto 6 and 7")
    assert [each["veto"] for each in finding.evidence["vetoes"]] == [6, 7]
