"""Which evidence has to stay whatever its age, since a gate may look at it."""

from datetime import datetime, timedelta

from django.utils import timezone

from apps.builds.retention import prunable_reports, prune_batch
from apps.catalog.models import Service
from apps.deployments.models import Occupancy
from apps.promotions.models import Pin, Promotion
from apps.releases.models import Release

BATCH = 50  # reports of one transaction


def builds_to_keep(service: Service) -> list[int]:
    """The builds of what is current or previous in any environment, held there, or on its way there."""
    releases: set[int] = set()
    occupied = Occupancy.objects.filter(environment__service=service).order_by("environment", "-since")
    newest: dict[int, list[int]] = {}
    for environment, release in occupied.values_list("environment", "release"):
        here = newest.setdefault(environment, [])
        if release not in here and len(here) < 2:
            here.append(release)
    releases.update(*newest.values())
    promotions = Promotion.objects.filter(
        environment__service=service, status__in=(Promotion.Status.PENDING, *Promotion.UNDER_WAY)
    )
    releases.update(promotions.values_list("release", flat=True))
    pins = Pin.objects.filter(environment__service=service, lifted_at=None)
    releases.update(pins.values_list("release", flat=True))
    return sorted(set(Release.objects.filter(pk__in=releases).values_list("build", flat=True)))


def pruned_before(service: Service) -> datetime | None:
    """Before when reports are not kept; None where the service keeps all."""
    days = service.evidence_days
    return None if days is None else timezone.now() - timedelta(days=days)


def count_prunable(service: Service) -> int:
    """How many reports prune_service would prune now."""
    before = pruned_before(service)
    if before is None:
        return 0
    return prunable_reports(service=service, before=before, keep=builds_to_keep(service)).count()


def prune_service(service: Service, *, batch: int = BATCH) -> int:
    """Prune what the service's policy no longer keeps, in batches; how many reports that were."""
    pruned = 0
    while done := prune_some(service, batch=batch):
        pruned += done
    return pruned


def prune_some(service: Service, *, batch: int = BATCH) -> int:
    """Prune one batch of that; how many reports it had, and 0 when all is done.

    What has to stay is asked anew before each batch. A promotion that is asked for in the very moment finds
    its report pruned, and a rule that needs its cases says so and is inconclusive.
    """
    before = pruned_before(service)
    if before is None:
        return 0
    return prune_batch(service=service, before=before, keep=builds_to_keep(service), size=batch)
