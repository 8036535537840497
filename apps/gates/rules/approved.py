"""People other than the requester have agreed, and may still do so today."""

from dataclasses import dataclass
from datetime import datetime

from apps.gates.facts import Facts, PersonFact
from apps.gates.parameters import names, whole_number
from apps.gates.rules.base import Rule
from apps.gates.verdicts import Finding, Verdict

SHOWN = 5  # approvers named


@dataclass(frozen=True)
class Parameters:
    count: int = whole_number(default=1, minimum=1, maximum=20, help_text="How many people must agree.")
    groups: tuple[str, ...] = names(
        help_text="Approver groups whose members' word counts; without any, every approver's. Where several "
        "groups must agree, use the rule once for each."
    )


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Approvals count while their giver holds the approver role, and is in a group that counts.

    One rejection, by any approver, is enough to block.
    """
    if facts.promotion is None:
        return Finding(
            Verdict.INCONCLUSIVE,
            "Nobody has asked for this promotion, so nobody can have approved it.",
            who=f"a developer of {facts.service}",
        )
    requester = facts.promotion.requested_by

    def belongs(person: PersonFact) -> bool:
        return not parameters.groups or not set(parameters.groups).isdisjoint(person.groups)

    given = [
        each
        for each in facts.approvals
        if each.approved and each.counts and belongs(each.user) and each.user.id != requester.id
    ]
    gone = [each for each in facts.approvals if each.approved and not each.counts]
    said = {each.user.id for each in facts.approvals}
    able = [
        each.username for each in facts.approvers if belongs(each) and each.id not in said | {requester.id}
    ]
    evidence = {
        "promotion": facts.promotion.id,
        "required": parameters.count,
        "groups": list(parameters.groups),
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
    of = f" of {' or '.join(parameters.groups)}" if parameters.groups else ""
    sentence = f"It needs {people} by someone{of} other than {requester.username}"
    if gone:
        sentence += f"; the word of {', '.join(each.user.username for each in gone)} counts no longer"
    if len(able) < missing:
        sentence += f"; too few can give it ({who or 'nobody'})"
        more = (
            f"add someone to {parameters.groups[0]}"
            if parameters.groups
            else "give someone else the approver role"
        )
        who = f"whoever manages {facts.service}: {more}"
    return Finding(Verdict.WAITING_HUMAN, f"{sentence}.", evidence, who=who)


RULE = Rule("approved", Parameters, judge)
