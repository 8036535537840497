"""Set up services and environments, and say who may do what with them. Each call may be repeated."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction

from apps.access.models import User
from apps.catalog.groups import leave_groups
from apps.catalog.models import Environment, Membership, Service, Upstream
from apps.errors import Invalid, NotFound
from apps.ledger.services import record


def get_service(slug: str) -> Service:
    """The service of that slug; NotFound otherwise."""
    service = Service.objects.filter(slug=slug).first()
    if service is None:
        raise NotFound(f"There is no service {slug!r}. Known: {_known(Service.objects.all())}.")
    return service


def get_environment(*, service: Service, slug: str) -> Environment:
    """The service's environment of that slug; NotFound otherwise."""
    environment = service.environments.select_related("service").filter(slug=slug).first()
    if environment is None:
        raise NotFound(
            f"{service.slug} has no environment {slug!r}. Known: {_known(service.environments.all())}."
        )
    return environment


def register_service(
    *,
    slug: str,
    name: str,
    bucket: str,
    codebuild_project: str,
    repository: str = "",
    by: User | None = None,
) -> Service:
    """Make a service, or bring the one of that slug up to date."""
    values = {
        "name": name,
        "bucket": bucket,
        "codebuild_project": codebuild_project,
        "repository": repository,
    }
    with transaction.atomic():
        service = Service.objects.select_for_update(no_key=True).filter(slug=slug).first()
        service = service or Service(slug=slug)
        if _save(service, f"Service {slug!r}", values):
            record(
                chain=slug,
                action="service.registered",
                subject=f"service:{service.pk}",
                actor=by,
                data=values,
            )
    return service


def keep_evidence(*, service: Service, days: int | None, by: User | None = None) -> None:
    """Say for how many days a service's reports keep their test cases; None is for ever.

    Nothing is removed here: manage.py prune_reports does that. Raises Invalid for a number below 1 or above
    32,767.
    """
    with transaction.atomic():
        row = Service.objects.select_for_update(no_key=True).get(pk=service.pk)
        if _save(row, f"Service {row.slug!r}", {"evidence_days": days}):
            record(
                chain=row.slug,
                action="service.evidence_days",
                subject=f"service:{row.pk}",
                actor=by,
                data={"days": days},
            )
    service.evidence_days = row.evidence_days


def register_environment(
    *,
    service: Service,
    slug: str,
    application: str,
    deployment_group: str,
    position: int = 0,
    auto_promote: bool = False,
    upstreams: Sequence[Environment] = (),
    upstream_mode: str = Environment.UpstreamMode.ALL,
    by: User | None = None,
) -> Environment:
    """Make an environment, or bring the service's one of that slug up to date; its upstreams are replaced.

    Where several environments could start at once, those of a lower ``position`` do so first. Raises
    Invalid for an upstream of another service and for a cycle.
    """
    label = f"Environment {slug!r} of {service.slug}"
    values: dict[str, Any] = {
        "application": application,
        "deployment_group": deployment_group,
        "position": position,
        "auto_promote": auto_promote,
        "upstream_mode": upstream_mode,
    }
    for upstream in upstreams:
        if upstream.service_id != service.pk:
            raise Invalid(f"{label}: its upstream {upstream.slug!r} belongs to another service.")
    with transaction.atomic():
        # One writer of this service's graph at a time: two edges could close a cycle together.
        Service.objects.select_for_update(no_key=True).get(pk=service.pk)
        environment = service.environments.filter(slug=slug).first()
        environment = environment or Environment(service=service, slug=slug)
        changed = _save(environment, label, values)
        wanted = {upstream.pk for upstream in upstreams}
        edges = Upstream.objects.filter(environment=environment)
        if wanted != set(edges.values_list("source", flat=True)):
            _refuse_cycle(environment, upstreams)
            edges.exclude(source__in=wanted).delete()
            Upstream.objects.bulk_create(
                [Upstream(environment=environment, source=upstream) for upstream in upstreams],
                ignore_conflicts=True,
            )
            changed = True
        if changed:
            record(
                chain=service.slug,
                action="environment.registered",
                subject=f"environment:{environment.pk}",
                actor=by,
                data={"slug": slug, **values, "upstreams": sorted(upstream.slug for upstream in upstreams)},
            )
    return environment


def grant_role(*, user: User, service: Service, role: str, by: User | None = None) -> Membership:
    """Give a user a role in a service; giving it twice changes nothing."""
    if role not in Membership.Role.values:
        raise Invalid(f"Unknown role {role!r}: choose from {', '.join(Membership.Role.values)}.")
    with transaction.atomic():
        membership, created = Membership.objects.get_or_create(user=user, service=service, role=role)
        if created:
            _record_role(service, "membership.granted", user, role, by)
    return membership


def revoke_role(*, user: User, service: Service, role: str, by: User | None = None) -> bool:
    """Take a role away; False when the user did not hold it. Who is no approver leaves the groups, too."""
    with transaction.atomic():
        deleted, _ = Membership.objects.filter(user=user, service=service, role=role).delete()
        if deleted:
            if role == Membership.Role.APPROVER:
                leave_groups(service=service, user=user, by=by)
            _record_role(service, "membership.revoked", user, role, by)
    return bool(deleted)


def _record_role(service: Service, action: str, user: User, role: str, by: User | None) -> None:
    data = {"username": user.username, "role": str(role)}
    record(chain=service.slug, action=action, subject=f"user:{user.pk}", actor=by, data=data)


def _save(row: models.Model, label: str, values: dict[str, Any]) -> bool:
    """Set and save what differs; False when nothing does. Raises Invalid naming the field."""
    changed = row.pk is None or any(getattr(row, field) != value for field, value in values.items())
    if changed:
        for field, value in values.items():
            setattr(row, field, value)
        try:
            row.full_clean()
        except ValidationError as error:
            problems = "; ".join(
                f"{field}: {' '.join(messages)}" if field != "__all__" else " ".join(messages)
                for field, messages in error.message_dict.items()
            )
            raise Invalid(f"{label}: {problems}") from error
        row.save()
    return changed


def _refuse_cycle(environment: Environment, upstreams: Sequence[Environment]) -> None:
    above: dict[int, set[int]] = {}
    edges = Upstream.objects.filter(environment__service=environment.service_id)
    for edge in edges.exclude(environment=environment):
        above.setdefault(edge.environment_id, set()).add(edge.source_id)
    for upstream in upstreams:
        seen: set[int] = set()
        queue = [upstream.pk]
        while queue:
            current = queue.pop()
            if current == environment.pk:
                raise Invalid(
                    f"{environment.slug} cannot be promoted from {upstream.slug}: {upstream.slug} is "
                    f"itself promoted, directly or not, from {environment.slug}."
                )
            if current not in seen:
                seen.add(current)
                queue += above.get(current, ())


def _known(rows: models.QuerySet[Any]) -> str:
    return ", ".join(rows.values_list("slug", flat=True)[:20]) or "none"
