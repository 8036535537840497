"""Let a promotion pass against its gate, for a time: operators answer for it with their names."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.utils import timezone

from apps.access.models import User
from apps.catalog.permissions import Role, require_held_role
from apps.errors import DomainError, Forbidden, Invalid
from apps.gates.models import Policy
from apps.gates.parameters import read_parameters
from apps.gates.rules import RULES
from apps.gates.rules.override import NAME, Parameters
from apps.promotions.models import Override, Promotion
from apps.promotions.services import judge_after


def override_promotion(
    *, promotion: Promotion, user: User, justification: str, minutes: int, rules: Sequence[str] = ()
) -> Override:
    """Let a pending promotion pass against the rules named, for so many minutes; it is judged at once.

    With no rule named it is all of them but those that have to be (apps.gates.rules.override), a veto
    first. For operators: being a superuser is not enough, since somebody must answer for what runs. Where
    the policy asks for a second one it counts once that has agreed (``second_override``). Asked again by the
    same person with the same words it is the same override. Raises Invalid for an unknown rule, for want of
    a justification, and for more minutes than the policy allows; DomainError where it no longer waits.
    """
    service = promotion.environment.service
    require_held_role(user=user, service=service, role=Role.OPERATOR)
    justification = justification.strip()
    if not justification:
        raise Invalid("An override needs a justification: it is shown with this promotion for ever.")
    named = sorted(set(rules))
    known = [name for name in RULES if name != NAME]
    if unknown := [name for name in named if name not in known]:
        raise Invalid(f"{', '.join(unknown)} cannot be overridden. What can is: {', '.join(known)}.")
    most = longest_override(promotion)
    if not 1 <= minutes <= most:
        raise Invalid(
            f"An override in {promotion.environment} counts for 1 to {most} minutes, not {minutes}."
        )
    now = timezone.now()
    same = promotion.overrides.filter(by=user, rules=named, justification=justification)
    if said := same.filter(withdrawn_at=None, expires_at__gt=now).first():
        return said
    made: list[Override] = []

    def write(current: Promotion) -> dict[str, Any]:
        override = Override.objects.create(
            promotion=current,
            rules=named,
            justification=justification,
            by=user,
            created_at=now,
            expires_at=now + timedelta(minutes=minutes),
        )
        made.append(override)
        return {
            "override": override.pk,
            "rules": named,
            "justification": justification,
            "expires_at": override.expires_at,
        }

    judge_after(promotion=promotion, actor=user, action="promotion.overridden", write=write)
    return made[0]


def longest_override(promotion: Promotion) -> int:
    """For how many minutes the policy in force lets an override of the promotion count."""
    policy = Policy.objects.filter(environment=promotion.environment_id).order_by("-version").first()
    rules = policy.rules_for(rollback=promotion.rollback) if policy else []
    entries = [each for each in rules if each.get("rule") == NAME]
    limits = [read_parameters(Parameters, each.get("parameters", {}), rule=NAME) for each in entries]
    return min(limit.maximum_minutes for limit in limits or [Parameters()])


def second_override(*, override: Override, user: User) -> None:
    """Agree to somebody else's override as another operator; the promotion is judged at once.

    Raises Forbidden to whoever gave it, and DomainError where it has ended or was seconded before.
    """
    promotion = override.promotion
    require_held_role(user=user, service=promotion.environment.service, role=Role.OPERATOR)
    if override.by_id == user.pk:
        raise Forbidden(f"Override {override.pk} cannot be seconded by {user.username}, who gave it.")

    def write(current: Promotion) -> dict[str, Any]:
        now = timezone.now()
        mine = Override.objects.filter(pk=override.pk, withdrawn_at=None, expires_at__gt=now)
        if not mine.filter(seconded_by=None).update(seconded_by=user, seconded_at=now):
            raise DomainError(f"Override {override.pk} has ended, or somebody has seconded it before.")
        override.seconded_by, override.seconded_at = user, now
        return {"override": override.pk}

    judge_after(promotion=promotion, actor=user, action="promotion.override_seconded", write=write)


def withdraw_override(*, override: Override, user: User, comment: str = "") -> None:
    """End an override before its time, as any operator; what still waits is judged at once.

    A deployment that has begun goes on; what runs because of it is shown as what would no longer pass.
    Raises DomainError where it was withdrawn before.
    """
    promotion = override.promotion
    require_held_role(user=user, service=promotion.environment.service, role=Role.OPERATOR)

    def write(current: Promotion) -> dict[str, Any]:
        now = timezone.now()
        mine = Override.objects.filter(pk=override.pk, withdrawn_at=None)
        if not mine.update(withdrawn_at=now, withdrawn_by=user):
            raise DomainError(f"Override {override.pk} is withdrawn already.")
        override.withdrawn_at, override.withdrawn_by = now, user
        return {"override": override.pk, "comment": comment}

    judge_after(
        promotion=promotion,
        actor=user,
        action="promotion.override_withdrawn",
        write=write,
        only_pending=False,
    )
