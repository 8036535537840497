"""How well environments are, and for how long releases were well in them, as far as Lockkeeper can see.

It sees deployments and what became of each on each host. An environment is healthy when the last deployment
that reached a host succeeded on every one and brought the release that runs there. docs/policies.md says it
in full.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery

from apps.catalog.models import Environment
from apps.deployments.models import Deployment
from apps.gates.facts import HealthFact, StayFact


def last_deployment(environment: str) -> Subquery:
    """The id of the last deployment that tells how an environment is; ``environment`` is the outer column."""
    there = Deployment.objects.reached_hosts().without_new_hosts().filter(environment=OuterRef(environment))
    return Subquery(there.newest_first().values("pk")[:1])


def deployments_with_hosts(keys: Iterable[int | None]) -> dict[int, Any]:
    """Deployments by id, each with how many hosts it had and on how many it succeeded; by one query."""
    rows: QuerySet[Any] = Deployment.objects.filter(pk__in=[key for key in keys if key is not None])
    counted = rows.select_related("release").defer("release__manifest")
    succeeded = Count("targets", filter=Q(targets__status="Succeeded"))
    return {row.pk: row for row in counted.annotate(hosts=Count("targets"), succeeded=succeeded)}


def health_of(environment: Environment, last: Any | None, occupied_by: int | None) -> HealthFact:
    """The health of an environment by its last deployment (of deployments_with_hosts) and what runs there."""
    if last is None:
        if occupied_by is None:
            return _fact("empty", environment.created_at, "Nothing was ever deployed there.", None)
        reason = "It is not known which deployment brought what runs there."
        return _fact("unknown", environment.created_at, reason, None)
    since = last.finished_at or last.started_at or last.created_at
    if last.status not in Deployment.FINAL:
        return _fact("changing", since, f"Deployment {last} is under way.", last)
    if last.release is None:
        return _fact("unknown", since, f"Deployment {last} brought something that is no known release.", last)
    brought = f"Deployment {last} of {last.release.version}"
    if not last.hosts:
        return _fact(
            "unknown", since, f"{brought} is {last.status}; what it did to hosts is not known.", last
        )
    same = last.release_id == occupied_by
    if last.status == Deployment.Status.SUCCEEDED and last.succeeded == last.hosts:
        if same:
            hosts = "its host" if last.hosts == 1 else f"all {last.hosts} hosts"
            return _fact("healthy", since, f"{brought} succeeded on {hosts}.", last)
        return _fact("mixed", since, f"{brought} succeeded, but another release is what runs there.", last)
    ended = f"{brought} is {last.status}: it succeeded on {last.succeeded} of {last.hosts} hosts."
    mixed = last.succeeded > 0 and not same
    return _fact("mixed" if mixed else "unhealthy", since, ended, last)


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


def _fact(state: str, since: datetime, reason: str, deployment: Any | None) -> HealthFact:
    return HealthFact(
        state=state, since=since, reason=reason, deployment_id=deployment.pk if deployment else None
    )
