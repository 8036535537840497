"""The environment is not held at another release.

It is asked of every promotion into a pinned environment, also where the policy does not name it.
"""

from datetime import datetime

from apps.gates.facts import Facts
from apps.gates.parameters import NoParameters
from apps.gates.rules.base import Rule
from apps.gates.verdicts import Finding, Verdict


def judge(facts: Facts, parameters: NoParameters, at: datetime) -> Finding:
    """A pin that has expired holds nothing; the release that an environment is held at may go there."""
    pin = facts.pin
    if pin is None or (pin.expires_at is not None and pin.expires_at <= at):
        return Finding(Verdict.PASS, f"Nobody holds {facts.environment} at a release.")
    evidence = {
        "pin": pin.id,
        "release": pin.release_id,
        "version": pin.version,
        "reason": pin.reason,
        "by": pin.by.username,
        "at": pin.at.isoformat(),
        "expires_at": pin.expires_at.isoformat() if pin.expires_at else None,
    }
    if pin.release_id == facts.release_id:
        return Finding(Verdict.PASS, f"{facts.environment} is held at this very release.", evidence)
    return Finding(
        Verdict.BLOCKED,
        f"{pin.by.username} holds {facts.environment} at {pin.version}: {pin.reason.rstrip('.')}.",
        evidence,
        who=f"an operator of {facts.service}: lift pin {pin.id}",
        earliest=pin.expires_at,
    )


RULE = Rule("not_pinned", NoParameters, judge)
