"""No newer release runs in the environment or is on its way there; a rollback is exempt."""

from datetime import datetime

from apps.gates.facts import Facts
from apps.gates.parameters import NoParameters
from apps.gates.rules.base import Rule
from apps.gates.verdicts import Finding, Verdict


def judge(facts: Facts, parameters: NoParameters, at: datetime) -> Finding:
    """Newer is what was registered later. Going back on purpose is a rollback, which says so itself."""
    newer = facts.superseded_by
    if newer is None:
        return Finding(Verdict.PASS, f"No newer release runs in {facts.environment} or waits for it.")
    evidence = {"release": newer.release_id, "version": newer.version, "promotion": newer.promotion_id}
    if facts.promotion is not None and facts.promotion.rollback:
        sentence = f"It is a rollback, so {newer.version} may be newer."
        return Finding(Verdict.PASS, sentence, evidence)
    if newer.promotion_id is None:
        return Finding(
            Verdict.BLOCKED,
            f"The newer release {newer.version} runs in {facts.environment} already.",
            evidence,
            who=f"a developer or operator of {facts.service}: going back is a rollback",
        )
    return Finding(
        Verdict.BLOCKED,
        f"The newer release {newer.version} is on its way to {facts.environment} "
        f"(promotion {newer.promotion_id}).",
        evidence,
        who=f"a developer or operator of {facts.service}: cancel promotion {newer.promotion_id}, if it waits",
    )


RULE = Rule("not_superseded", NoParameters, judge)
