"""The bundle is in S3 as it was registered: that version, its eTag and its size.

A version in S3 cannot be overwritten, but it can be deleted, and what is deployed must be what was tested.
``manage.py reconcile`` looks every few minutes while a release waits or runs, and once more right before it
starts a deployment.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apps.gates.facts import Facts
from apps.gates.parameters import wait_minutes
from apps.gates.rules.base import Rule
from apps.gates.verdicts import Finding, Verdict

NAME = "bundle_intact"


@dataclass(frozen=True)
class Parameters:
    wait_minutes: int = wait_minutes(default=15)


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Blocked once S3 said that it is gone or another; inconclusive where S3 says nothing for too long."""
    bundle = facts.bundle
    evidence = {
        "release": facts.release_id,
        "digest": facts.release_digest,
        "checked_at": _told(bundle.checked_at if bundle else None),
        "failing_since": _told(bundle.failing_since if bundle else None),
        "problem": bundle.problem if bundle else "",
        "failure": bundle.failure if bundle else "",
    }
    if bundle is not None and bundle.problem:
        return Finding(
            Verdict.BLOCKED,
            f"The bundle is not what was registered: {bundle.problem.rstrip('.')}.",
            evidence,
            who=f"a developer of {facts.service}, by a new build; whoever manages the bucket",
        )
    if bundle is not None and bundle.checked_at is not None and bundle.failing_since is None:
        since = f"{bundle.checked_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return Finding(
            Verdict.PASS, f"The bundle is in S3 as it was registered; found so since {since}.", evidence
        )
    if bundle is not None and bundle.failing_since is not None:
        begin, state = bundle.failing_since, f"S3 does not tell of the bundle ({bundle.failure.rstrip('.')})"
    elif facts.promotion is not None:
        begin, state = facts.promotion.requested_at, "Nobody has looked at the bundle in S3 yet"
    else:
        return Finding(Verdict.INCONCLUSIVE, "Nobody has looked at the bundle in S3.", evidence)
    deadline = begin + timedelta(minutes=parameters.wait_minutes)
    evidence["waits_until"] = deadline.isoformat()
    if at < deadline:
        return Finding(Verdict.WAITING_EVIDENCE, f"{state}.", evidence, who="manage.py reconcile")
    return Finding(
        Verdict.INCONCLUSIVE,
        f"{state}; an answer was expected within {parameters.wait_minutes} minutes.",
        evidence,
        who="whoever runs manage.py reconcile, or manages the bucket",
    )


def _told(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


RULE = Rule(NAME, Parameters, judge)
