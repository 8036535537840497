from dataclasses import replace

from apps.gates.rules.approved import Parameters, judge
from apps.gates.verdicts import Verdict
from tests.gates.make import ANN, BEN, CEM, NOON, approval_fact, facts

DBA_BEN = replace(BEN, groups=("dba",))
OPS_CEM = replace(CEM, groups=("ops", "release-managers"))


def find(*approvals, count=1, groups=(), **fields):
    return judge(facts(approvals=approvals, **fields), Parameters(count=count, groups=groups), NOON)


def test_without_an_approval_it_waits_and_says_for_whom():
    finding = find()
    assert finding.verdict == Verdict.WAITING_HUMAN
    assert finding.sentence == "It needs 1 more approval by someone other than ann."
    assert finding.who == "ben, cem"


def test_an_approval_by_someone_else_passes():
    finding = find(approval_fact(BEN))
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == "Approved by ben; ann asked for it."


def test_the_requesters_own_word_never_counts():
    finding = find(approval_fact(ANN), approvers=(ANN, BEN))
    assert finding.verdict == Verdict.WAITING_HUMAN
    assert finding.who == "ben"


def test_two_of_two_are_needed():
    finding = find(approval_fact(BEN), count=2)
    assert finding.verdict == Verdict.WAITING_HUMAN
    assert finding.who == "cem"
    assert find(approval_fact(BEN), approval_fact(CEM), count=2).verdict == Verdict.PASS


def test_the_word_of_someone_who_lost_the_role_counts_no_longer():
    finding = find(approval_fact(BEN, counts=False), approvers=(CEM,))
    assert finding.verdict == Verdict.WAITING_HUMAN
    assert "the word of ben counts no longer" in finding.sentence
    assert finding.evidence["no_longer_counted"] == ["ben"]


def test_too_few_approvers_are_said():
    finding = find(approvers=(ANN,))
    assert finding.verdict == Verdict.WAITING_HUMAN
    assert "too few can give it (nobody)" in finding.sentence
    assert "approver role" in finding.who


def test_one_rejection_blocks():
    finding = find(approval_fact(BEN), approval_fact(CEM, approved=False))
    assert finding.verdict == Verdict.BLOCKED
    assert finding.sentence == "cem rejected it."


def test_nobody_asked_is_inconclusive():
    assert find(promotion=None).verdict == Verdict.INCONCLUSIVE


def test_only_the_word_of_a_named_groups_members_counts():
    finding = find(approval_fact(DBA_BEN), approvers=(DBA_BEN, OPS_CEM), groups=("release-managers",))
    assert finding.verdict == Verdict.WAITING_HUMAN
    assert finding.sentence == "It needs 1 more approval by someone of release-managers other than ann."
    assert finding.who == "cem"
    assert find(approval_fact(OPS_CEM), groups=("release-managers",)).verdict == Verdict.PASS


def test_of_several_groups_members_of_any_count():
    approvals = (approval_fact(DBA_BEN), approval_fact(OPS_CEM))
    assert find(*approvals, count=2, groups=("dba", "ops")).verdict == Verdict.PASS
    assert find(*approvals, count=2, groups=("dba",)).verdict == Verdict.WAITING_HUMAN


def test_the_requester_counts_for_no_group():
    ann = replace(ANN, groups=("dba",))
    finding = find(approval_fact(ann), approvers=(ann, OPS_CEM), groups=("dba",))
    assert finding.verdict == Verdict.WAITING_HUMAN
    assert "too few can give it (nobody)" in finding.sentence
    assert finding.who == "whoever manages shop: add someone to dba"


def test_a_rejection_from_outside_the_group_blocks_too():
    rejected = approval_fact(OPS_CEM, approved=False)
    assert find(approval_fact(DBA_BEN), rejected, groups=("dba",)).verdict == Verdict.BLOCKED
