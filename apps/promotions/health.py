"""How well environments are, and for how long releases were well in them, as far as Lockkeeper can see.

It sees deployments and what became of each on each host. An environment is healthy when the last deployment
that reached a host succeeded on every one and brought the release that runs there. docs/policies.md says it
in full.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import FilteredRelation, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, JSONObject

from apps.catalog.models import Environment
from apps.deployments.models import Deployment, Target
from apps.gates.facts import HealthFact, StayFact
from apps.promotions.models import Pin


def with_condition(environments: QuerySet[Environment]) -> QuerySet[Environment]:
    """Each with what ``open_pin`` and ``health_of`` read, by the same query."""
    rows = environments.annotate(
        open_pin=FilteredRelation("pins", condition=Q(pins__lifted_at=None)),
        last_deployment=_last_deployment(),
    ).select_related("open_pin__release", "open_pin__by")  # type: ignore[misc]  # which mypy does not see
    return rows.defer("open_pin__release__manifest", "open_pin__release__steps")  # type: ignore[misc]  # likewise


def open_pin(environment: Environment) -> Pin | None:
    """What holds an environment of ``with_condition``; it may have expired. One at most is open."""
    # Set by Django only where there is one.
    pin: Pin | None = getattr(environment, "open_pin", None)
    return pin


@cache  # Django takes longer to make it than PostgreSQL to answer it.
def _last_deployment() -> Subquery:
    """The last deployment that tells how an environment is."""
    there = Deployment.objects.reached_hosts().without_new_hosts().filter(environment=OuterRef("pk"))
    hosts = Target.objects.filter(deployment=OuterRef("pk")).order_by().values("status")
    told = JSONObject(
        id="pk",
        intent="intent",
        codedeploy_id="codedeploy_id",
        status="status",
        release="release_id",
        version="release__version",
        since=Coalesce("finished_at", "started_at", "created_at"),
        hosts=ArraySubquery(hosts),
    )
    return Subquery(there.newest_first().values(told=told)[:1])


def health_of(environment: Environment, occupied_by: int | None) -> HealthFact:
    """The health of an environment of ``with_condition`` in which this release, by its id, runs."""
    last: Mapping[str, Any] | None = getattr(environment, "last_deployment", None)
    if last is None:
        if occupied_by is None:
            return _fact("empty", environment.created_at, "Nothing was ever deployed there.")
        reason = "It is not known which deployment brought what runs there."
        return _fact("unknown", environment.created_at, reason)
    since = datetime.fromisoformat(last["since"])
    name = Deployment(intent=last["intent"], codedeploy_id=last["codedeploy_id"])
    pk, status, hosts = last["id"], last["status"], len(last["hosts"])
    succeeded = last["hosts"].count("Succeeded")
    if status not in Deployment.FINAL:
        return _fact("changing", since, f"Deployment {name} is under way.", pk)
    if last["release"] is None:
        return _fact("unknown", since, f"Deployment {name} brought something that is no known release.", pk)
    brought = f"Deployment {name} of {last['version']}"
    if not hosts:
        return _fact("unknown", since, f"{brought} is {status}; what it did to hosts is not known.", pk)
    same = last["release"] == occupied_by
    if status == Deployment.Status.SUCCEEDED and succeeded == hosts:
        if same:
            on = "its host" if hosts == 1 else f"all {hosts} hosts"
            return _fact("healthy", since, f"{brought} succeeded on {on}.", pk)
        return _fact("mixed", since, f"{brought} succeeded, but another release is what runs there.", pk)
    ended = f"{brought} is {status}: it succeeded on {succeeded} of {hosts} hosts."
    mixed = succeeded > 0 and not same
    return _fact("mixed" if mixed else "unhealthy", since, ended, pk)


def stays_of(occupancies: Iterable[Any]) -> tuple[StayFact, ...]:
    """The times in which a release was current and healthy, without a break, in one environment.

    ``occupancies`` are the release's there, oldest first, of ``with_incidents``. The same release brought
    again does not break a stay, and begins one where it was broken.
    """
    stays: list[StayFact] = []
    last_until: datetime | None = None
    for each in occupancies:
        begin: datetime | None = each.since
        if stays and stays[-1].until == each.since == last_until:
            # Brought again while it was well.
            begin = stays.pop().since
        for incident in each.incidents:
            again = incident["release"] == each.release_id
            status, hosts = incident["status"], set(incident["hosts"])
            if again and status == Deployment.Status.RUNNING and "Failed" not in hosts:
                continue
            if again and status == Deployment.Status.SUCCEEDED and hosts == {"Succeeded"}:
                if incident["origin"] == Deployment.Origin.AUTO_SCALING:
                    # On hosts that are new; whether the others are well it does not tell.
                    continue
                begin = begin or datetime.fromisoformat(incident["end"])
            elif begin is not None:
                # One that was under way already when the release came leaves it no time.
                stays.append(StayFact(begin, max(begin, datetime.fromisoformat(incident["begin"]))))
                begin = None
        if begin is not None:
            stays.append(StayFact(begin, each.until))
        last_until = each.until
    return tuple(stays)


def _fact(state: str, since: datetime, reason: str, deployment: int | None = None) -> HealthFact:
    return HealthFact(state=state, since=since, reason=reason, deployment_id=deployment)
