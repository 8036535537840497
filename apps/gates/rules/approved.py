"""People other than the requester have agreed, and may still do so today."""

from dataclasses import dataclass
from datetime import datetime

from apps.gates.facts import Facts
from apps.gates.parameters import whole_number
from apps.gates.rules.base import Rule
from apps.gates.verdicts import Finding, Verdict

SHOWN = 5  # approvers named


@dataclass(frozen=True)
class Parameters:
    count: int = whole_number(default=1, minimum=1, maximum=20, help_text="How many people must agree.")


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Approvals count while their giver holds the approver role; one rejection is enough to block."""
    if facts.promotion is None:
        return Finding(
            Verdict.INCONCLUSIVE,
            "Nobody has asked for this promotion, so nobody can have approved it.",
            who=f"a developer of {facts.service}",
        )
    requester = facts.promotion.requested_by
    given = [
        each for each in facts.approvals if each.approved and each.counts and each.user.id != requester.id
    ]
    gone = [each for each in facts.approvals if each.approved and not each.counts]
    said = {each.user.id for each in facts.approvals}
    able = [each.username for each in facts.approvers if each.id not in said | {requester.id}]
    evidence = {
        "promotion": facts.promotion.id,
        "required": parameters.count,
        "requested_by": requester.username,
        "approved_by": [{"user": each.user.username, "at": each.at.isoformat()} for each in given],
        "no_longer_counted": [each.user.username for each in gone],
        "can_approve": able,
    }
    if rejected := [each for each in facts.approvals if not each.approved]:
        return Finding(Verdict.BLOCKED, f"{rejected[0].user.username} rejected it.", evidence)
    missing = parameters.count - len(given)
    if missing <= 0:
        names = ", ".join(each.user.username for each in given)
        return Finding(Verdict.PASS, f"Approved by {names}; {requester.username} asked for it.", evidence)
    people = "1 more approval" if missing == 1 else f"{missing} more approvals"
    who = ", ".join(able[:SHOWN]) + (f" and {len(able) - SHOWN} more" if len(able) > SHOWN else "")
    sentence = f"It needs {people} by someone other than {requester.username}"
    if gone:
        sentence += f"; the word of {', '.join(each.user.username for each in gone)} counts no longer"
    if len(able) < missing:
        sentence += f"; too few can give it ({who or 'nobody'})"
        who = f"whoever manages {facts.service}: give someone else the approver role"
    return Finding(Verdict.WAITING_HUMAN, f"{sentence}.", evidence, who=who)


RULE = Rule("approved", Parameters, judge)
