"""The release has been deployed with success where this environment is promoted from."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apps.gates.facts import Facts, UpstreamFact
from apps.gates.parameters import wait_minutes
from apps.gates.rules.base import Rule
from apps.gates.verdicts import Finding, Verdict


@dataclass(frozen=True)
class Parameters:
    wait_minutes: int = wait_minutes(default=60 * 24)


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """In all upstreams or in any of them, as the environment says; having been there once is enough."""
    if not facts.upstreams:
        return Finding(
            Verdict.INCONCLUSIVE,
            f"{facts.environment} is promoted from nowhere, so nothing can be verified upstream.",
            who=f"whoever sets up {facts.service}: name an upstream or drop this rule",
        )
    evidence = {
        "mode": facts.upstream_mode,
        "upstreams": [_evidence(upstream) for upstream in facts.upstreams],
    }
    verified = [upstream for upstream in facts.upstreams if upstream.since is not None]
    missing = [upstream for upstream in facts.upstreams if upstream.since is None]
    if not missing or (facts.upstream_mode == "any" and verified):
        places = " and ".join(upstream.slug for upstream in verified)
        return Finding(
            Verdict.PASS, f"{facts.release_version} was deployed to {places} with success.", evidence
        )
    names = (" or " if facts.upstream_mode == "any" else " and ").join(upstream.slug for upstream in missing)
    never = f"{facts.release_version} has never been deployed to {names} with success"
    coming = [upstream for upstream in missing if upstream.promotion_at is not None]
    enough = bool(coming) if facts.upstream_mode == "any" else len(coming) == len(missing)
    if enough:
        deadline = max(
            upstream.promotion_at + timedelta(minutes=parameters.wait_minutes)
            for upstream in coming
            if upstream.promotion_at is not None
        )
        promotions = " and ".join(
            f"promotion {upstream.promotion_id} to {upstream.slug}" for upstream in coming
        )
        waits = at < deadline
        return Finding(
            Verdict.WAITING_EVIDENCE if waits else Verdict.INCONCLUSIVE,
            f"{never} yet; {promotions} {'is' if len(coming) == 1 else 'are'} not finished"
            + ("." if waits else f" after {parameters.wait_minutes} minutes."),
            evidence | {"waits_until": deadline.isoformat()},
            who=f"whoever {promotions} waits for",
        )
    return Finding(
        Verdict.BLOCKED, f"{never}: promote it there first.", evidence, who=f"a developer of {facts.service}"
    )


def _evidence(upstream: UpstreamFact) -> dict[str, Any]:
    return {
        "environment": upstream.slug,
        "deployment": upstream.deployment_id,
        "since": upstream.since.isoformat() if upstream.since else None,
        "until": upstream.until.isoformat() if upstream.until else None,
        "promotion": upstream.promotion_id,
    }


RULE = Rule("verified_upstream", Parameters, judge)
