"""A promotion in words, for terminals."""

from datetime import datetime, timedelta

from django.utils import timezone

from apps.catalog.models import Environment
from apps.deployments.foreign import intruder
from apps.deployments.waits import silence, waits_for
from apps.gates.models import Decision
from apps.gates.outlook import Outlook
from apps.gates.rules.base import moment
from apps.gates.verdicts import EXIT_CODES, OPENS, Verdict
from apps.promotions.models import Promotion
from apps.promotions.services import blocker

ENDED_BADLY = 1
MARKS = {Verdict.PASS: "✓", Verdict.OVERRIDDEN: "!", Verdict.BLOCKED: "✗"}


def summary(promotion: Promotion) -> str:
    """One line: what, where to, how far."""
    reason = f": {promotion.reason}" if promotion.reason else ""
    return (
        f"Promotion {promotion.pk}: {promotion.release.version} → {promotion.environment.service.slug}/"
        f"{promotion.environment.slug} is {promotion.status}{reason}"
    )


def findings(decision: Decision) -> list[str]:
    """The verdict, and under it each rule's finding with who can supply what is missing."""
    verdict = Verdict(decision.verdict)
    lines = [f"{verdict.label.capitalize()} (decision {decision.pk}, policy v{decision.policy.version})"]
    width = max((len(finding["rule"]) for finding in decision.findings), default=0)
    for finding in decision.findings:
        mark = MARKS.get(finding["verdict"], "…")
        who = finding["who"]
        lines.append(
            f"  {mark} {finding['rule']:<{width}}  {finding['sentence']}" + (f" [{who}]" if who else "")
        )
    return lines


def waits(promotion: Promotion) -> str:
    """What holds up a promotion, in sentences; empty when it has ended, or while findings say it.

    Its deployment's worker, CodeDeploy or AWS once it is under way; before that, with its gate open,
    whatever occupies the environment.
    """
    decision, deployment, now = promotion.decision, promotion.deployment, timezone.now()
    if promotion.status in Promotion.UNDER_WAY and deployment is not None:
        sentence = waits_for(deployment, at=now)
        return f"The deployment waits: {sentence}" if sentence else ""
    if promotion.status != Promotion.Status.PENDING:
        return ""
    if decision is None:
        return "It has not been judged yet; manage.py reconcile does that."
    if decision.verdict not in OPENS:
        return ""
    if why := blocker(environment=promotion.environment, promotion=promotion):
        return f"The gate is open; it waits because {why}."
    return " ".join(
        filter(None, ["The gate is open; manage.py reconcile starts it.", silence(promotion, at=now)])
    )


def outlook(ahead: Outlook) -> str:
    """When it could pass, in a sentence or two."""
    if ahead.earliest is not None:
        return f"It passes by itself at {_whole_minute(ahead.earliest)}."
    if ahead.not_before is not None:
        if ahead.not_before <= timezone.now():
            return "It passes as soon as all that is asked for has come."
        when = _whole_minute(ahead.not_before)
        return f"It cannot pass before {when}, even if all that is asked for comes now."
    if ahead.by_then:
        return f"By the time it could pass, this will stand against it: {ahead.by_then[0].sentence}"
    return "Waiting alone does not mend it."


def unknown(environment: Environment) -> str:
    """What took the place of the last release where it is none; empty where nothing did."""
    deployment = intruder(environment)
    if deployment is None or deployment.finished_at is None:
        return ""
    return (
        f"something that is no known release, since {moment(deployment.finished_at)} "
        f"(deployment {deployment}: {deployment.revision or 'CodeDeploy does not say what'})"
    )


def _whole_minute(at: datetime) -> str:
    # Rounded up: whoever comes a moment early finds the gate shut.
    return moment(at + timedelta(minutes=1) - timedelta(microseconds=1))


def exit_code(promotion: Promotion) -> int:
    """0 when it may go or has gone there; the verdict's code while it waits; 1 when it ended badly."""
    if promotion.status == Promotion.Status.PENDING and promotion.decision is not None:
        return EXIT_CODES[Verdict(promotion.decision.verdict)]
    good = (Promotion.Status.SUCCEEDED, *Promotion.UNDER_WAY)
    return 0 if promotion.status in good else ENDED_BADLY
