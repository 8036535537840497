"""Hold back: pin an environment to a release, veto a release, and lift either.

A pin or a veto stands although whoever set it has left the service meanwhile: in doubt the gate is shut.
Neither stops a deployment that has begun.
"""

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from apps.access.models import User
from apps.catalog.models import Environment
from apps.catalog.permissions import Role, require_role
from apps.deployments.models import Occupancy
from apps.errors import DomainError, Invalid
from apps.leases import wake
from apps.ledger.services import record
from apps.promotions.models import Pin, Promotion, Standing, Veto
from apps.releases.models import Release

# An environment is held, and let go, by those who run it.
PINNERS = frozenset({Role.OPERATOR})
# A veto is an approver's no that outlasts one promotion; in an incident operators need it as well.
VETOERS = frozenset({Role.APPROVER, Role.OPERATOR})


def pin_environment(
    *,
    environment: Environment,
    user: User,
    reason: str,
    release: Release | None = None,
    expires_at: datetime | None = None,
) -> Pin:
    """Hold an environment at a release, by default at what runs there now, until ``expires_at`` if given.

    For operators, who answer for what runs. The release need not have arrived: then it alone may go there.
    Asked again by the same person with the same words it is the same pin. Raises DomainError while another
    pin stands, or where nothing runs that could be held.
    """
    service = environment.service
    require_role(user=user, service=service, roles=PINNERS)
    reason = _reason(reason, "A pin")
    if expires_at is not None and expires_at <= timezone.now():
        raise Invalid(f"The pin would have expired already, at {expires_at:%Y-%m-%d %H:%M %Z}.")
    if release is not None and release.service_id != service.pk:
        raise Invalid(
            f"Release {release.version} is not of {service.slug}, so {environment} cannot stay there."
        )
    with transaction.atomic():
        # Whoever starts a promotion there holds this lock while the gate is judged.
        Environment.objects.select_for_update(no_key=True).get(pk=environment.pk)
        if release is None:
            current = Occupancy.objects.current().filter(environment=environment)
            occupancy = current.select_related("release").defer("release__manifest").first()
            if occupancy is None:
                raise DomainError(f"Nothing runs in {environment} that it could be held at: name a release.")
            release = occupancy.release
        held = (
            Pin.objects.filter(environment=environment, lifted_at=None)
            .select_related("release", "by")
            .first()
        )
        if held is not None and held.stands:
            if (held.release_id, held.by_id, held.reason, held.expires_at) == (
                release.pk,
                user.pk,
                reason,
                expires_at,
            ):
                return held
            raise DomainError(
                f"{environment} is held at {held.release.version} already, by {held.by.username}: "
                f"{held.reason} Lift that pin first."
            )
        if held is not None:
            held.lifted_at = held.expires_at
            held.save(update_fields=["lifted_at"])
        pin = Pin.objects.create(
            environment=environment, release=release, reason=reason, by=user, expires_at=expires_at
        )
        record(
            chain=service.slug,
            action="environment.pinned",
            subject=f"environment:{environment.pk}",
            actor=user,
            data={
                "pin": pin.pk,
                "environment": environment.slug,
                "release": release.version,
                "digest": release.digest,
                "reason": reason,
                "expires_at": expires_at,
            },
        )
        _wake_when_done(environment=environment)
    return pin


def lift_pin(*, pin: Pin, user: User, comment: str = "") -> None:
    """Let an environment go, as an operator; what waits for it is judged at once.

    Raises DomainError where the pin was lifted before, or has expired and holds nothing any more.
    """
    environment = pin.environment
    require_role(user=user, service=environment.service, roles=PINNERS)
    with transaction.atomic():
        Environment.objects.select_for_update(no_key=True).get(pk=environment.pk)
        now = timezone.now()
        if not Pin.objects.standing().filter(pk=pin.pk).update(lifted_at=now, lifted_by=user):
            raise DomainError(f"Pin {pin.pk} holds {environment} no longer.")
        pin.lifted_at, pin.lifted_by = now, user
        record(
            chain=environment.service.slug,
            action="environment.unpinned",
            subject=f"environment:{environment.pk}",
            actor=user,
            data={"pin": pin.pk, "environment": environment.slug, "comment": comment},
        )
        _wake_when_done(environment=environment)


def veto_release(
    *, release: Release, user: User, reason: str, environment: Environment | None = None
) -> Veto:
    """Keep a release from an environment; from every one of its service where none is given.

    For approvers, whose no it is beyond one promotion, and for operators, who may have to act first in an
    incident. Where the release runs it goes on running, and is shown as what would no longer pass. Asked
    again by the same person with the same words it is the same veto; raises DomainError where another one
    of the same scope stands.
    """
    service = release.service
    require_role(user=user, service=service, roles=VETOERS)
    reason = _reason(reason, "A veto")
    if environment is not None and environment.service_id != service.pk:
        raise Invalid(
            f"{environment} is not of {service.slug}, so {release.version} could not go there anyway."
        )
    with transaction.atomic():
        _lock_environments(release, environment)
        standing = Veto.objects.standing().filter(release=release, environment=environment)
        if said := standing.select_related("by").first():
            if (said.by_id, said.reason) == (user.pk, reason):
                return said
            raise DomainError(f"{said.by.username} has vetoed {release.version} already: {said.reason}")
        veto = Veto.objects.create(release=release, environment=environment, reason=reason, by=user)
        _record_veto(veto, "release.vetoed", user, reason=reason)
        _wake_when_done(release=release)
    return veto


def lift_veto(*, veto: Veto, user: User, comment: str = "") -> None:
    """Take a veto back; what waits is judged at once.

    Whoever may veto may lift, and not only who did: a veto must not outlast the people who understood it.
    Raises DomainError where it was lifted before.
    """
    require_role(user=user, service=veto.release.service, roles=VETOERS)
    with transaction.atomic():
        _lock_environments(veto.release, veto.environment)
        now = timezone.now()
        if not Veto.objects.standing().filter(pk=veto.pk).update(lifted_at=now, lifted_by=user):
            raise DomainError(f"Veto {veto.pk} is lifted already.")
        veto.lifted_at, veto.lifted_by = now, user
        _record_veto(veto, "release.veto_lifted", user, comment=comment)
        _wake_when_done(release=veto.release)


def _reason(reason: str, what: str) -> str:
    if not reason.strip():
        raise Invalid(f"{what} needs a reason: it is what everybody reads who is held up by it.")
    return reason.strip()


def _lock_environments(release: Release, environment: Environment | None) -> None:
    """Let no promotion start where the release is meant until this transaction ends."""
    rows = Environment.objects.filter(service=release.service_id)
    if environment is not None:
        rows = rows.filter(pk=environment.pk)
    # In one order; evaluated, since the rows themselves are not needed.
    list(rows.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True))


def _record_veto(veto: Veto, action: str, user: User, **words: str) -> None:
    release = veto.release
    record(
        chain=release.service.slug,
        action=action,
        subject=f"release:{release.pk}",
        actor=user,
        data={
            "veto": veto.pk,
            "release": release.version,
            "digest": release.digest,
            "environment": veto.environment.slug if veto.environment else "",
            **words,
        },
    )


def _wake_when_done(**which: Environment | Release) -> None:
    """Have what waits and what runs, of this release or in this environment, judged again once committed."""

    def done() -> None:
        wake(Promotion.objects.pending().filter(**which))
        wake(Standing.objects.filter(**which))

    transaction.on_commit(done)
