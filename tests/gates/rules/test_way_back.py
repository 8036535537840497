from dataclasses import replace

import pytest

from apps.gates.facts import WayBackFact
from apps.gates.rules.way_back import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import BEN, CEM, NOON, approval_fact, facts

OPEN = WayBackFact("reversible", "", "", "1.1.0")
DROP = WayBackFact("one_way", "shop.0007_drop", "RemoveField order.total", "1.1.0")
NOTHING = WayBackFact("reversible", "", "")


def find(*approvals, way_back=OPEN, schema=OPEN, count=1, groups=(), **fields):
    told = facts(way_back=way_back, schema=schema, approvals=approvals, **fields)
    return judge(told, Parameters(count=count, groups=groups), NOON)


def test_a_reversible_release_passes():
    finding = find()
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == "1.1.0 can come back after it; its migrations can be undone."


def test_a_forward_compatible_one_passes_and_says_what_stays():
    finding = find(way_back=replace(DROP, level="forward_compatible"))
    assert finding.verdict == Verdict.PASS
    assert "on the database as it will be: shop.0007_drop: RemoveField order.total." in finding.sentence


def test_nothing_to_come_back_to_passes():
    finding = find(way_back=NOTHING, schema=NOTHING)
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == "Nothing runs there, so there is nothing to come back to."


def test_one_way_waits_for_the_approval_and_names_the_operation():
    finding = find(way_back=DROP)
    assert finding.verdict == Verdict.WAITING_HUMAN
    assert finding.sentence == (
        "After it there is no way back to 1.1.0: shop.0007_drop: RemoveField order.total. "
        "It needs 1 more approval by someone other than ann."
    )
    assert finding.who == "ben, cem"
    assert finding.evidence["way_back"]["migration"] == "shop.0007_drop"
    assert finding.evidence["can_approve"] == ["ben", "cem"]


def test_one_way_passes_with_the_approvals_that_the_policy_names():
    assert find(approval_fact(BEN), way_back=DROP).verdict == Verdict.PASS
    assert find(approval_fact(BEN), way_back=DROP, count=2).verdict == Verdict.WAITING_HUMAN
    dba = replace(CEM, groups=("dba",))
    assert find(approval_fact(BEN), way_back=DROP, groups=("dba",)).verdict == Verdict.WAITING_HUMAN
    assert find(approval_fact(dba), way_back=DROP, groups=("dba",)).verdict == Verdict.PASS


def test_a_rejection_blocks_what_is_one_way():
    assert find(approval_fact(BEN, approved=False), way_back=DROP).verdict == Verdict.BLOCKED


@pytest.mark.parametrize("level", ["unknown", "of a later version"])
def test_what_is_not_known_is_inconclusive_even_with_approvals(level):
    finding = find(
        approval_fact(BEN), way_back=WayBackFact(level, "shop.0007", "RunSQL: not written out", "1.1.0")
    )
    assert finding.verdict == Verdict.INCONCLUSIVE
    assert finding.sentence == (
        "It is not known whether 1.1.0 can come back after 1.2.0: shop.0007: RunSQL: not written out."
    )
    assert find(schema=WayBackFact(level, "", "not read", "1.1.0")).verdict == Verdict.INCONCLUSIVE


def test_a_release_that_the_database_has_left_behind_is_blocked():
    finding = find(approval_fact(BEN), schema=DROP)
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence == (
        "1.2.0 cannot run on the database as 1.1.0 has left it: shop.0007_drop: RemoveField order.total."
    )


def test_facts_from_before_are_inconclusive():
    assert find(way_back=None).verdict == Verdict.INCONCLUSIVE
    assert find(schema=None).verdict == Verdict.INCONCLUSIVE
