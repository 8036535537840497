"""Whether a release can run on an environment's database, as those that were there since have left it."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast

from apps.compiled import AboveAny, Among, compiled
from apps.deployments.models import Deployment, Occupancy
from apps.promotions.remembered import Remembered
from apps.releases.migration_source import WEIGHT, Level, Step
from apps.releases.models import Release
from apps.releases.way_back import WayBack, read_json, steps_between, way_back_to

# Migrations of releases as PostgreSQL writes them, None of those that were never read.
Steps = Mapping[int, str | None]
# By release, whose manifest does not change. Most have the migrations of the one before, which is kept once.
remembered_steps: Remembered[int, str | None] = Remembered(limit=4096)
# Of a deployment from the console, say: it may have migrated the database, or not.
NO_RELEASE = WayBack(Level.UNKNOWN, operation="it brought something that is no release known here")


class Brought(NamedTuple):
    """What CodeDeploy was told to bring to an environment: a release, or something that is none."""

    environment: int
    deployment: int
    codedeploy_id: str
    release: int | None
    version: str | None

    @property
    def name(self) -> str:
        """How a sentence calls it: by its version, else by CodeDeploy's id of the deployment."""
        return self.version or self.codedeploy_id


@dataclass(frozen=True)
class Way:
    """The way back to a release, and the name of what has made it so; empty where it is open."""

    way: WayBack
    after: str = ""


def steps_of(releases: Iterable[int]) -> Steps:
    """The migrations of releases, by their ids; a query for those that this process has not read yet."""
    return remembered_steps.look_up(releases, _read_steps)


def parse_steps(text: str | None) -> list[Step] | None:
    """Of a text of ``Steps``."""
    return read_json(json.loads(text) if text else None)


def brought_in_vain(after: Mapping[int, int]) -> list[Brought]:
    """What was brought to environments, each after the deployment given, and did not come to run there.

    Of each release the last time, oldest first: those that failed, or are still coming, since migrations
    are applied before a release starts, and stay; and whatever is no release known here.
    """
    return _later(_not_arrived(environments=after.keys(), deployments=after.values()), after)


def brought_since(release: int, *, environment_id: int) -> list[Brought]:
    """What was brought there since a release was brought there last, but for itself."""
    return brought_since_all([(environment_id, release)])[environment_id, release]


def brought_since_all(places: Collection[tuple[int, int]]) -> dict[tuple[int, int], list[Brought]]:
    """For each environment and release what ``brought_since`` tells; two queries for all of them."""
    if not places:
        return {}
    environments, releases = ({place[index] for place in places} for index in (0, 1))
    rows = _last_stays(environments=environments, releases=releases)
    stays = {(where, what): by for where, what, by in rows}
    told = _told(environments=environments, deployments=[stays.get(place, 0) for place in places])
    return {
        (where, what): [
            each for each in _later(told, {where: stays.get((where, what), 0)}) if each.release != what
        ]
        for where, what in places
    }


def worst_way_to(
    release: int, brought: Iterable[Brought], steps: Steps, *, not_applied: Collection[str] = ()
) -> Way:
    """The way back to a release over all that was brought to the database; unknown over what is no release.

    Contract migrations count as applied unless ``not_applied`` names them.
    """
    worst = Way(WayBack(Level.REVERSIBLE))
    # Most have the migrations of the one before, and those of all need not be read for that.
    seen = {steps[release]} - {None}
    target: list[Step] | None = None
    for each in brought:
        way = NO_RELEASE
        if each.release is not None:
            if (text := steps[each.release]) in seen:
                continue
            seen.add(text)
            target = target or parse_steps(steps[release])
            way = way_back_to(target, parse_steps(text), not_applied=not_applied)
        if WEIGHT[way.level] > WEIGHT[worst.way.level]:
            worst = Way(way, each.name)
    return worst


def contract_steps(release: int, brought: Iterable[Brought], steps: Steps) -> dict[str, Step]:
    """The contract migrations that came with what was brought and that a release lacks, by app.name."""
    target = parse_steps(steps[release]) or []
    return {
        step.label: step
        for each in brought
        if each.release is not None
        for step in steps_between(target, parse_steps(steps[each.release]) or [])
        if step.contract
    }


@compiled
def _steps_of() -> QuerySet[Release, Any]:
    rows = Release.objects.filter(Among("pk", "releases")).order_by()
    return rows.values_list("pk", Cast("steps", TextField()))


def _read_steps(releases: Collection[int]) -> dict[int, str | None]:
    return {pk: steps and intern(steps) for pk, steps in _steps_of(releases=releases)}


@compiled
def _last_stays() -> QuerySet[Occupancy, Any]:
    stays = Occupancy.objects.filter(Among("environment", "environments"), Among("release", "releases"))
    newest = stays.order_by("environment", "release_id", "-since", "-id")
    return newest.distinct("environment", "release_id").values_list("environment", "release", "deployment")


@compiled
def _told() -> QuerySet[Deployment, Any]:
    return _brought()


@compiled
def _not_arrived() -> QuerySet[Deployment, Any]:
    # With success a release comes to run there, if it is not what runs there already.
    return _brought().filter(Q(release=None) | ~Q(status=Deployment.Status.SUCCEEDED))


def _brought() -> QuerySet[Deployment, Any]:
    """The last of each environment and release."""
    told = Deployment.objects.filter(
        Among("environment", "environments"), AboveAny("pk", "deployments"), codedeploy_id__isnull=False
    )
    newest = told.order_by("environment", "release_id", "-pk").distinct("environment", "release_id")
    return newest.values_list("environment", "pk", "codedeploy_id", "release", "release__version")


def _later(rows: Iterable[tuple[Any, ...]], after: Mapping[int, int]) -> list[Brought]:
    brought = [Brought(*row) for row in rows]
    later = (each for each in brought if each.deployment > after.get(each.environment, each.deployment))
    return sorted(later, key=lambda each: each.deployment)
