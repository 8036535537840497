"""Quarantine: a test's failures are known, says a person, until a day and for a reason.

A policy may excuse so many failures of quarantined tests; by itself a quarantine excuses nothing. It is never
made by Lockkeeper itself, and always runs out. Who writes code may have to quarantine a test of it, but it
takes an approver's or an operator's word, as whatever opens a gate does.

Rows are locked in the order of apps.builds.store: the report group, then the ledger's chain.
"""

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from apps.access.models import User
from apps.builds.flaky import judge_one
from apps.builds.models import LONGEST_QUARANTINE, Quarantine, ReportGroup, TestCase
from apps.catalog.models import Service
from apps.catalog.permissions import Role, require_role
from apps.errors import DomainError, Invalid
from apps.leases import wake
from apps.ledger.services import record
from apps.promotions.models import Promotion, Standing

KEEPERS = frozenset({Role.APPROVER, Role.OPERATOR})
REASON_LIMIT = 2000  # characters


def quarantine_case(*, case: TestCase, user: User, reason: str, until: datetime) -> Quarantine:
    """Quarantine a test until a time within the next 90 days; what waits at a gate is judged again.

    Asked again by the same person with the same words it is the same quarantine. Raises Invalid without a
    reason or for another time, DomainError for a test that is quarantined already or of which no outcome is
    kept.
    """
    require_role(user=user, service=case.service, roles=KEEPERS)
    now = timezone.now()
    reason = check_reason(reason)
    check_end(until, now)
    with transaction.atomic():
        _lock(case)
        if other := case.quarantines.in_force().select_related("by").first():
            if (other.by_id, other.reason, other.until) == (user.pk, reason, until):
                return other
            raise DomainError(
                f"{case} is quarantined already: by {other.by.username} until {other.until:%Y-%m-%d %H:%M} "
                f"UTC (quarantine {other.pk}). Lift that first."
            )
        quarantine = Quarantine.objects.create(case=case, reason=reason, by=user, created_at=now, until=until)
        if not judge_one(case=case):
            raise DomainError(f"No outcome of {case} is kept, so there is nothing to quarantine.")
        _record(quarantine, "case.quarantined", user, {"reason": reason, "until": until.isoformat()})
        _wake(case.service)
    return quarantine


def check_reason(reason: str) -> str:
    """The reason without blanks around it; Invalid where nothing is left, or too much."""
    reason = reason.strip()
    if not reason or len(reason) > REASON_LIMIT:
        raise Invalid(f"Say why, in at most {REASON_LIMIT:,} characters.")
    return reason


def check_end(until: datetime, now: datetime) -> None:
    """Raise Invalid unless a quarantine that begins now may end then."""
    latest = now + LONGEST_QUARANTINE
    if not now < until <= latest:
        raise Invalid(
            f"A quarantine ends within {LONGEST_QUARANTINE.days} days, by {latest:%Y-%m-%d %H:%M} UTC; "
            f"{until:%Y-%m-%d %H:%M %Z} is not."
        )


def lift_quarantine(*, quarantine: Quarantine, user: User, comment: str = "") -> None:
    """End a quarantine before its time; what waits at a gate is judged again.

    Raises DomainError when it has ended already. ``quarantine`` is brought up to date.
    """
    case = quarantine.case
    require_role(user=user, service=case.service, roles=KEEPERS)
    with transaction.atomic():
        _lock(case)
        quarantine.refresh_from_db(fields=["lifted_at", "lifted_by"])
        if quarantine.lifted_at is not None or quarantine.until <= timezone.now():
            ended = quarantine.lifted_at or quarantine.until
            raise DomainError(f"Quarantine {quarantine.pk} has ended at {ended:%Y-%m-%d %H:%M} UTC.")
        quarantine.lifted_at, quarantine.lifted_by = timezone.now(), user
        quarantine.save(update_fields=["lifted_at", "lifted_by"])
        judge_one(case=case)
        _record(quarantine, "case.quarantine_lifted", user, {"comment": comment})
        _wake(case.service)


def _lock(case: TestCase) -> None:
    """One writer of what is known of a group's cases at a time."""
    if case.report_group_id is not None:
        ReportGroup.objects.select_for_update(no_key=True).get(pk=case.report_group_id)


def _record(quarantine: Quarantine, action: str, actor: User, words: dict[str, str]) -> None:
    case = quarantine.case
    record(
        chain=case.service.slug,
        action=action,
        subject=f"case:{case.pk}",
        actor=actor,
        data={"quarantine": quarantine.pk, "report": case.group, "test": str(case), **words},
    )


def _wake(service: Service) -> None:
    def judge_again() -> None:
        wake(Promotion.objects.pending().filter(environment__service=service))
        wake(Standing.objects.filter(environment__service=service))

    transaction.on_commit(judge_again)
