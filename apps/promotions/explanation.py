"""Why is it not there? The whole answer in one look: what is unmet, who can act, and when it could pass.

Nothing is written. What waits at its gate is judged by the facts as they stand now; what has gone through
or come to its end keeps its last decision.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.utils import timezone

from apps.catalog.models import Environment
from apps.deployments.models import Occupancy
from apps.errors import DomainError, Invalid
from apps.gates.evaluate import judge
from apps.gates.facts import PersonFact, PromotionFact
from apps.gates.models import Policy
from apps.gates.outlook import Outlook, look_ahead
from apps.gates.rules.base import moment
from apps.gates.verdicts import OPENS, Finding, Verdict, by_importance, worst
from apps.promotions import describe
from apps.promotions.facts import gather
from apps.promotions.models import Promotion
from apps.releases.models import Release

Status = Promotion.Status
# Whoever will ask for it: nobody that exists, so that nobody counts as the one who must not approve.
SOMEBODY = PersonFact(id=0, username="whoever asks")


@dataclass(frozen=True)
class Explanation:
    """Where a release stands before an environment, and why."""

    release: Release
    environment: Environment
    # None where nobody has asked for it.
    promotion: Promotion | None
    # What is in the environment now.
    running: Occupancy | None
    # One or two sentences.
    answer: str
    # None when it was never judged.
    verdict: Verdict | None
    policy_version: int | None
    evaluated_at: datetime | None
    # The worst first; those that are met last.
    findings: tuple[Finding, ...]
    # None when there is nothing to wait for any more.
    outlook: Outlook | None

    @property
    def unmet(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.verdict not in OPENS)

    @property
    def met(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.verdict in OPENS)

    def to_json(self) -> dict[str, Any]:
        """As the API and ``why --json`` give it; times are datetimes still."""
        promotion, outlook = self.promotion, self.outlook
        return {
            "promotion": promotion.pk if promotion else None,
            "service": self.environment.service.slug,
            "environment": self.environment.slug,
            "release": _brief(self.release),
            "status": promotion.status if promotion else None,
            "running": {"release": _brief(self.running.release), "since": self.running.since}
            if self.running
            else None,
            "answer": self.answer,
            "verdict": str(self.verdict) if self.verdict else None,
            "policy_version": self.policy_version,
            "evaluated_at": self.evaluated_at,
            "unmet": [finding.to_json() for finding in self.unmet],
            "met": [finding.to_json() for finding in self.met],
            "earliest": outlook.earliest if outlook else None,
            "not_before": outlook.not_before if outlook else None,
            "by_then": [finding.to_json() for finding in outlook.by_then] if outlook else [],
        }

    @property
    def is_there(self) -> bool:
        return self.running is not None and self.running.release_id == self.release.pk


def _brief(release: Release) -> dict[str, Any]:
    return {
        "id": release.pk,
        "version": release.version,
        "commit": release.commit,
        "digest": release.digest,
    }


def explain_promotion(promotion: Promotion) -> Explanation:
    """Why a promotion is where it is. A fixed number of queries, however much evidence there is."""
    if promotion.status == Status.PENDING:
        return _judged_now(promotion.release, promotion.environment, promotion)
    decision = promotion.decision
    running = _running(promotion.environment)
    stored = [Finding.from_json(each) for each in decision.findings] if decision else []
    return Explanation(
        release=promotion.release,
        environment=promotion.environment,
        promotion=promotion,
        running=running,
        answer=_under_way_or_over(promotion, running),
        verdict=Verdict(decision.verdict) if decision else None,
        policy_version=decision.policy.version if decision else None,
        evaluated_at=decision.evaluated_at if decision else None,
        findings=tuple(by_importance(stored)),
        outlook=None,
    )


def explain_absence(*, environment: Environment, release: Release | None = None) -> Explanation:
    """Why a release is not in an environment.

    Without ``release`` it is the one that was last asked for there, if it has not arrived, and else the
    service's newest. What nobody waits for is judged as if somebody asked for it now. Raises DomainError
    where there is no release.
    """
    if release is not None and release.service_id != environment.service_id:
        raise Invalid(f"{release.version} is not of {environment.service.slug}.")
    running = _running(environment)
    asked = Promotion.objects.filter(environment=environment).select_related(
        "release", "environment__service", "requested_by", "decision__policy", "deployment"
    )
    if release is not None:
        asked = asked.filter(release=release)
    promotion = asked.order_by("-id").first()
    if promotion is not None and promotion.status not in Promotion.FINAL:
        return explain_promotion(promotion)
    if release is None:
        release = _wanted(environment, promotion, running)
    if promotion is not None and promotion.release_id != release.pk:
        promotion = None
    if running is not None and running.release_id == release.pk:
        return _there(environment, release, promotion, running)
    return _judged_now(release, environment, promotion)


def _wanted(environment: Environment, last: Promotion | None, running: Occupancy | None) -> Release:
    if last is not None and (running is None or running.release_id != last.release_id):
        return last.release
    newest = Release.objects.filter(service=environment.service_id).order_by("-id").first()
    if newest is None:
        raise DomainError(
            f"{environment.service.slug} has no release yet: a build that publishes a bundle makes one."
        )
    return newest


def _judged_now(release: Release, environment: Environment, promotion: Promotion | None) -> Explanation:
    at = timezone.now()
    policy = Policy.objects.filter(environment=environment).order_by("-version").first()
    waiting = promotion is not None and promotion.status == Status.PENDING
    rollback = promotion is not None and waiting and promotion.rollback
    rules: list[dict[str, Any]] = policy.rules_for(rollback=rollback) if policy else []
    facts = gather(release=release, environment=environment, promotion=promotion if waiting else None)
    if not waiting:
        facts = replace(facts, promotion=PromotionFact(id=0, requested_by=SOMEBODY, requested_at=at))
    verdict, findings = judge(rules=rules, facts=facts, at=at)
    outlook = look_ahead(rules=rules, facts=facts, at=at)
    running = _running(environment)
    if not waiting:
        # Its own promotion comes first, whatever the rest says.
        ask = _ask(release, environment, promotion)
        verdict, findings = worst([verdict, ask.verdict]), [ask, *findings]
        outlook = replace(outlook, earliest=None)
    found = tuple(by_importance(findings))
    if verdict in OPENS:
        answer = describe.waits(promotion) if promotion else ""
        answer = answer or "The gate is open; manage.py reconcile starts it."
    else:
        answer = f"{_count(found)}. {describe.outlook(outlook)}"
    return Explanation(
        release=release,
        environment=environment,
        promotion=promotion,
        running=running,
        answer=answer,
        verdict=verdict,
        policy_version=policy.version if policy else None,
        evaluated_at=at,
        findings=found,
        outlook=outlook,
    )


def _there(
    environment: Environment, release: Release, promotion: Promotion | None, running: Occupancy
) -> Explanation:
    decision = promotion.decision if promotion else None
    stored = [Finding.from_json(each) for each in decision.findings] if decision else []
    return Explanation(
        release=release,
        environment=environment,
        promotion=promotion,
        running=running,
        answer=f"It is there since {moment(running.since)}, and nothing else was asked for.",
        verdict=Verdict(decision.verdict) if decision else None,
        policy_version=decision.policy.version if decision else None,
        evaluated_at=decision.evaluated_at if decision else None,
        findings=tuple(by_importance(stored)),
        outlook=None,
    )


def _ask(release: Release, environment: Environment, last: Promotion | None) -> Finding:
    """The finding that somebody has to ask for it, with how it ended when somebody did."""
    service = environment.service.slug
    evidence: dict[str, Any] = {}
    if last is None:
        sentence = f"Nobody has asked for {release.version} to be brought to {environment.slug}."
    else:
        evidence = {"promotion": last.pk, "status": last.status}
        reason = f": {last.reason.rstrip('.')}" if last.reason else ""
        sentence = f"Promotion {last.pk} of it is {last.status}{reason}. A retry is a new promotion."
    return Finding(
        Verdict.WAITING_HUMAN,
        sentence,
        evidence,
        who=f"a developer or operator of {service}: manage.py promote {release.version} {environment.slug} "
        f"--service {service}, or POST /api/v1/promotions/",
        rule="requested",
    )


def _under_way_or_over(promotion: Promotion, running: Occupancy | None) -> str:
    if promotion.status in Promotion.UNDER_WAY:
        return describe.waits(promotion) or f"It passed its gate and is {promotion.status}."
    if promotion.status == Status.SUCCEEDED:
        if running is not None and running.release_id == promotion.release_id:
            return f"It arrived, and is there since {moment(running.since)}."
        now = f"{running.release.version} runs" if running else "nothing runs"
        return f"It arrived; by now {now} there."
    reason = f": {promotion.reason}" if promotion.reason else "."
    return f"It is {promotion.status}{reason}"


def _count(findings: tuple[Finding, ...]) -> str:
    unmet = sum(finding.verdict not in OPENS for finding in findings)
    return f"{unmet} of {len(findings)} conditions {'is' if unmet == 1 else 'are'} not met"


def _running(environment: Environment) -> Occupancy | None:
    current = Occupancy.objects.current().filter(environment=environment)
    return current.select_related("release").defer("release__manifest", "release__steps").first()
