"""Would what runs in an environment still be let in? Evidence, policies and approvals change after the fact.

The release is judged as at the time when it was let through and by the facts of that time, but with today's
policy and today's evidence, people and vetoes. So a window that has shut since, a soak or the mere age of its
evidence is no reason, and a second look at the reports, a stricter policy or an approver who left is. That S3
could not be asked just now is none either: of the bundle the last answer holds.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, Subquery
from django.utils import timezone

from apps.builds.models import Build
from apps.catalog.models import Environment
from apps.deployments.models import Occupancy
from apps.gates.evaluate import judge
from apps.gates.facts import BundleFact, Facts
from apps.gates.models import Policy
from apps.gates.verdicts import OPENS, Finding, Verdict, by_importance
from apps.leases import Lease, wake
from apps.ledger.services import record
from apps.promotions.facts import gather
from apps.promotions.models import Promotion, Standing
from apps.releases.models import Release

# Of the facts, those whose change says something about what was let through.
TODAYS = (
    "build",
    "reports",
    "failures",
    "quarantines",
    "promotion",
    "approvals",
    "approvers",
    "bundle",
    "vetoes",
    "overrides",
)


@dataclass(frozen=True)
class Judgement:
    """What today's gate says of the release that runs in an environment."""

    release: Release
    policy: Policy | None
    verdict: Verdict
    unmet: tuple[Finding, ...]

    @property
    def still_passes(self) -> bool:
        return self.verdict in OPENS


def judge_running(environment: Environment) -> Judgement | None:
    """Judge what runs in an environment; None where nothing does. Nothing is written."""
    current = Occupancy.objects.current().filter(environment=environment)
    occupancy = current.select_related("release").defer("release__manifest", "release__steps").first()
    if occupancy is None:
        return None
    came_by = Promotion.objects.filter(deployment=occupancy.deployment_id).select_related(
        "decision", "requested_by"
    )
    promotion = came_by.first()
    facts, at = _facts(environment, occupancy.release, promotion)
    policy = Policy.objects.filter(environment=environment).order_by("-version").first()
    # It came by the rules of one of the two lists, and is held to what these are today.
    rollback = promotion is not None and promotion.rollback
    rules = policy.rules_for(rollback=rollback) if policy else []
    verdict, findings = judge(rules=rules, facts=facts, at=at)
    unmet = tuple(by_importance(finding for finding in findings if finding.verdict not in OPENS))
    return Judgement(release=occupancy.release, policy=policy, verdict=verdict, unmet=unmet)


def _facts(environment: Environment, release: Release, promotion: Promotion | None) -> tuple[Facts, datetime]:
    today = gather(release=release, environment=environment, promotion=promotion)
    today = replace(today, bundle=_answered(today.bundle))
    decision = promotion.decision if promotion else None
    if decision is not None:
        try:
            then = Facts.from_json(decision.facts)
        except ValueError:
            # Of a version whose facts this one cannot read: then by today's alone.
            pass
        else:
            facts = replace(then, **{name: getattr(today, name) for name in TODAYS})
            if then.way_back is None:
                # Of a version that did not look at migrations. What runs came over them, whatever they are.
                facts = replace(facts, way_back=today.way_back, schema=today.schema)
            return facts, decision.evaluated_at
    # It came by no gate of ours. A newer release that waits is no fault of this one.
    return replace(today, superseded_by=None), timezone.now()


def _answered(bundle: BundleFact | None) -> BundleFact | None:
    """What S3 said last, whether or not it could be asked since."""
    if bundle is None or (bundle.checked_at is None and not bundle.problem):
        return bundle
    return replace(bundle, failing_since=None, failure="")


def update_standing(*, standing: Standing, lease: Lease) -> None:
    """Judge what runs in the standing's environment and write it down; the ledger tells of each turn.

    Raises LeaseLost when another worker has the row by now.
    """
    environment = Environment.objects.select_related("service").get(pk=standing.environment_id)
    found = judge_running(environment)
    now = timezone.now()
    with transaction.atomic():
        lease.hold()
        before = Standing.objects.get(pk=standing.pk)
        if found is None:
            lease.update(release=None, policy=None, verdict="", unmet=[], still_passes=None, judged_at=now)
            return
        same_release = before.release_id == found.release.pk
        turned = found.still_passes != (before.still_passes if same_release else True)
        since = before.since if same_release and not turned and before.since else now
        lease.update(
            release=found.release,
            policy=found.policy,
            verdict=found.verdict,
            unmet=[finding.to_json() for finding in found.unmet],
            still_passes=found.still_passes,
            since=since,
            judged_at=now,
        )
        if turned:
            record(
                chain=environment.service.slug,
                action="release.passes_again" if found.still_passes else "release.no_longer_passes",
                subject=f"release:{found.release.pk}",
                data={
                    "environment": environment.slug,
                    "release": found.release.version,
                    "verdict": str(found.verdict),
                    "unmet": sorted({finding.rule for finding in found.unmet}),
                    "policy": found.policy.pk if found.policy else None,
                },
            )


def look_for_standings() -> None:
    """Begin to watch environments in which something runs, and wake those with another release or policy."""
    current = Occupancy.objects.current().filter(environment=OuterRef("pk"))
    unwatched = Environment.objects.filter(Exists(current), standing=None)
    # Another worker may be at it as well.
    Standing.objects.bulk_create(
        [Standing(environment=environment) for environment in unwatched], ignore_conflicts=True
    )
    newest = Policy.objects.filter(environment=OuterRef("environment")).order_by("-version").values("pk")[:1]
    runs = Occupancy.objects.current().filter(environment=OuterRef("environment")).values("release")[:1]
    judged = Standing.objects.annotate(newest=Subquery(newest), runs=Subquery(runs))
    same = {"policy__isnull": False, "policy": F("newest"), "release": F("runs")}
    _wake(judged.exclude(**same).filter(runs__isnull=False))
    _wake(judged.filter(runs__isnull=True, release__isnull=False))


def wake_waiting_for(build: Build) -> None:
    """A build has new evidence: judge again what waits for it, and what runs of it."""
    wake(Promotion.objects.pending().filter(release__in=build.releases.values("pk")))
    _wake(Standing.objects.filter(release__in=build.releases.values("pk")))


def _wake(standings: models.QuerySet[Standing]) -> None:
    # By key: an UPDATE takes no annotations.
    wake(Standing.objects.filter(pk__in=list(standings.values_list("pk", flat=True))))
