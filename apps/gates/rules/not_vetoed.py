"""Nobody has vetoed the release for this environment, or for all of the service's.

It is asked of every release that is vetoed, also where the policy does not name it.
"""

from datetime import datetime

from apps.gates.facts import Facts
from apps.gates.parameters import NoParameters
from apps.gates.rules.base import Rule
from apps.gates.verdicts import Finding, Verdict


def judge(facts: Facts, parameters: NoParameters, at: datetime) -> Finding:
    """Each veto blocks until it is lifted, whether or not its giver still belongs to the service."""
    if not facts.vetoes:
        return Finding(Verdict.PASS, f"Nobody has vetoed {facts.release_version}.")
    words = []
    for veto in facts.vetoes:
        where = veto.environment or "every environment"
        words.append(f"{veto.by.username} vetoed it for {where}: {veto.reason.rstrip('.')}")
    ids = " and ".join(str(veto.id) for veto in facts.vetoes)
    evidence = {
        "vetoes": [
            {
                "veto": veto.id,
                "environment": veto.environment,
                "reason": veto.reason,
                "by": veto.by.username,
                "at": veto.at.isoformat(),
            }
            for veto in facts.vetoes
        ]
    }
    return Finding(
        Verdict.BLOCKED,
        f"{'; '.join(words)}.",
        evidence,
        who=f"an approver or operator of {facts.service}: lift veto {ids}",
    )


RULE = Rule("not_vetoed", NoParameters, judge)
