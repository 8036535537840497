"""When to look at bundles in S3, for environments whose policy has the rule ``bundle_intact``.

AWS is never asked in the gate's transaction: what a look found is a row, which the gate reads.
"""

from datetime import timedelta

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from apps.deployments.models import Occupancy
from apps.gates.models import Policy
from apps.gates.rules.bundle_intact import NAME
from apps.gates.verdicts import OPENS
from apps.leases import wake
from apps.promotions.models import Promotion, Standing
from apps.releases.models import BundleLook, Release
from apps.releases.services import look_at_bundle

# How old the last look may be when a deployment's intent is written.
FRESH = timedelta(minutes=1)


def watched_releases() -> models.QuerySet[Release]:
    """Releases that wait at, or run behind, a gate whose policy asks for an intact bundle."""
    in_force = Policy.objects.filter(pk__in=Policy.objects.newest().values("pk"))
    entry = [{"rule": NAME}]
    of_either = Q(("rules__contains", entry)) | Q(("rollback__contains", entry))
    asking = in_force.filter(of_either).values("environment")
    waits = Promotion.objects.pending().filter(release=OuterRef("pk"), environment__in=asking)
    runs = Occupancy.objects.current().filter(release=OuterRef("pk"), environment__in=asking)
    return Release.objects.filter(Exists(waits) | Exists(runs))


def watched_looks() -> models.QuerySet[BundleLook]:
    """The looks at what is watched now."""
    return BundleLook.objects.filter(release__in=watched_releases().values("pk"))


def begin_looks() -> None:
    """Begin to look at what is watched and has never been looked at."""
    unseen = watched_releases().filter(look=None).values_list("pk", flat=True)
    # Another worker may be at it as well.
    BundleLook.objects.bulk_create([BundleLook(release_id=pk) for pk in unseen], ignore_conflicts=True)


def refresh_look(release: Release) -> BundleLook:
    """Look at a release's bundle now; wake what waits or runs where the answer is another than before."""
    before = BundleLook.objects.filter(release=release).first()
    look = look_at_bundle(release=release)
    if _said(look) != _said(before):
        wake(Promotion.objects.pending().filter(release=release))
        wake(Standing.objects.filter(release=release))
    return look


def wants_look(promotion: Promotion) -> bool:
    """Whether the gate is open by a look that is not fresh any more, so that somebody has to look first."""
    decision = promotion.decision
    if decision is None or decision.verdict not in OPENS:
        return False
    if all(entry.get("rule") != NAME for entry in decision.policy.rules_for(rollback=promotion.rollback)):
        return False
    asked = BundleLook.objects.filter(release=promotion.release_id).values_list("asked_at", flat=True).first()
    return asked is None or asked < timezone.now() - FRESH


def _said(look: BundleLook | None) -> tuple[object, ...]:
    return (look.problem, look.since, look.failing_since) if look else ()
