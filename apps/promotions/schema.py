"""Whether a release can run on an environment's database, as those that were there since have left it."""

from collections.abc import Collection
from dataclasses import dataclass

from apps.deployments.models import Deployment, Occupancy
from apps.releases.migration_source import WEIGHT, Level, Step
from apps.releases.models import Release
from apps.releases.way_back import WayBack, read_json, steps_between, way_back_to


@dataclass(frozen=True)
class Way:
    """The way back to a release, and the release whose migrations make it so; none where it is open."""

    way: WayBack
    after: Release | None = None


def releases_since(release: Release, *, environment_id: int) -> list[Release]:
    """Those that CodeDeploy was told to bring there since ``release`` was brought there last, oldest first.

    Also those that failed: their migrations are applied before they start, and stay.
    """
    told = Deployment.objects.filter(
        environment=environment_id, codedeploy_id__isnull=False, release__isnull=False
    )
    stays = Occupancy.objects.filter(environment=environment_id, release=release)
    if last := stays.order_by("-since", "-id").values_list("deployment", flat=True).first():
        told = told.filter(pk__gt=last)
    found = Release.objects.filter(pk__in=told.values("release")).exclude(pk=release.pk)
    return list(found.only("pk", "version", "steps").order_by("pk"))


def worst_way_to(release: Release, *, environment_id: int, not_applied: Collection[str] = ()) -> Way:
    """The way back to a release over whatever the environment's database has seen since it was there.

    Contract migrations count as applied unless ``not_applied`` names them.
    """
    steps = read_json(release.steps)
    ways = [
        Way(way_back_to(steps, read_json(each.steps), not_applied=not_applied), each)
        for each in releases_since(release, environment_id=environment_id)
    ]
    worst = max(ways, key=lambda each: WEIGHT[each.way.level], default=None)
    if worst is None or worst.way.level == Level.REVERSIBLE:
        return Way(WayBack(Level.REVERSIBLE))
    return worst


def contract_steps_since(release: Release, *, environment_id: int) -> dict[str, Step]:
    """The contract migrations that came with what was there since, by app.name."""
    steps = read_json(release.steps) or []
    return {
        step.label: step
        for each in releases_since(release, environment_id=environment_id)
        for step in steps_between(steps, read_json(each.steps) or [])
        if step.contract
    }
