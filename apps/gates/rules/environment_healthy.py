"""The environment is healthy: its last deployment succeeded on every host, and all run the same release."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from apps.gates.facts import Facts
from apps.gates.parameters import wait_minutes
from apps.gates.rules.base import Rule, moment
from apps.gates.verdicts import Finding, Verdict


@dataclass(frozen=True)
class Parameters:
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Blocked while it is not; what repairs it comes by a policy without this rule, such as a rollback."""
    health, place = facts.health, facts.environment
    mend = (
        f"an operator of {facts.service}: bring a release there that succeeds on every host, by manage.py "
        f"rollback {facts.service} {place} or another way that does not ask for this"
    )
    if health is None:
        return Finding(Verdict.INCONCLUSIVE, f"It is not known whether {place} is healthy.", who=mend)
    evidence = {
        "state": health.state,
        "since": health.since.isoformat(),
        "deployment": health.deployment_id,
    }
    said = health.reason
    if health.state == "healthy":
        return Finding(Verdict.PASS, f"{place} is healthy. {said}", evidence)
    if health.state == "empty":
        return Finding(Verdict.PASS, f"{said} So there is nothing that could be unhealthy.", evidence)
    since = f"since {moment(health.since)}"
    if health.state == "changing":
        deadline = health.since + timedelta(minutes=parameters.wait_minutes)
        waits = at < deadline
        return Finding(
            Verdict.WAITING_EVIDENCE if waits else Verdict.INCONCLUSIVE,
            f"{place} is being changed {since}. {said}",
            evidence | {"waits_until": deadline.isoformat()},
            who="CodeDeploy" if waits else f"whoever looks after CodeDeploy for {facts.service}",
        )
    if health.state in ("unhealthy", "mixed"):
        what = "runs several releases" if health.state == "mixed" else "is not healthy"
        return Finding(Verdict.BLOCKED, f"{place} {what} {since}. {said}", evidence, who=mend)
    return Finding(
        Verdict.INCONCLUSIVE,
        f"It is not known {since} whether {place} is healthy. {said}",
        evidence,
        who=mend,
    )


RULE = Rule("environment_healthy", Parameters, judge)
