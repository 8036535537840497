"""Named groups of a service's approvers: who is in them. Each call may be repeated."""

from django.core.exceptions import ValidationError
from django.db import transaction

from apps.access.models import User
from apps.catalog.models import ApproverGroup, Membership, Service
from apps.errors import Invalid, NotFound
from apps.ledger.services import record

ADDED, REMOVED = "group.member_added", "group.member_removed"


def get_group(*, service: Service, name: str) -> ApproverGroup:
    """The service's group of that name; NotFound otherwise."""
    group = service.approver_groups.select_related("service").filter(name=name).first()
    if group is None:
        known = ", ".join(service.approver_groups.values_list("name", flat=True)[:20]) or "none"
        raise NotFound(f"{service.slug} has no group {name!r}. Known: {known}.")
    return group


def register_group(*, service: Service, name: str, by: User | None = None) -> ApproverGroup:
    """Make a group without members, or find the service's one of that name.

    Raises Invalid for a name that is no slug.
    """
    try:
        ApproverGroup(service=service, name=name).clean_fields()
    except ValidationError as error:
        raise Invalid(f"Group {name!r} of {service.slug}: {' '.join(error.messages)}") from error
    with transaction.atomic():
        group, created = ApproverGroup.objects.get_or_create(service=service, name=name)
        if created:
            record(
                chain=service.slug,
                action="group.registered",
                subject=f"group:{group.pk}",
                actor=by,
                data={"group": name},
            )
    return group


def add_to_group(*, group: ApproverGroup, user: User, by: User | None = None) -> bool:
    """Let a user approve for a group; False when the user was in it already.

    Raises Invalid unless the user is an approver of the service: the group would count on somebody
    who cannot approve.
    """
    with transaction.atomic():
        # Held until the end, so that the role cannot be taken away in between and leave the user behind.
        role = Membership.objects.select_for_update().filter(
            user=user, service=group.service_id, role=Membership.Role.APPROVER
        )
        if not user.is_active or not role.exists():
            raise Invalid(
                f"{user.username} is no approver of {group.service.slug}: give the role first, "
                f"then add to {group.name}."
            )
        return _change(group, user, ADDED, by)


def remove_from_group(*, group: ApproverGroup, user: User, by: User | None = None) -> bool:
    """Take a user out of a group; False when the user was not in it.

    What the user has approved for the group counts no longer.
    """
    with transaction.atomic():
        return _change(group, user, REMOVED, by)


def leave_groups(*, service: Service, user: User, by: User | None = None) -> None:
    """Take a user out of all groups of a service."""
    with transaction.atomic():
        for group in service.approver_groups.filter(members=user).select_related("service"):
            _change(group, user, REMOVED, by)


def _change(group: ApproverGroup, user: User, action: str, by: User | None) -> bool:
    """Add or remove one member and record it; False when there was nothing to do."""
    members = ApproverGroup.members.through.objects
    if action == ADDED:
        _, changed = members.get_or_create(approvergroup=group, user=user)
    else:
        deleted, _ = members.filter(approvergroup=group, user=user).delete()
        changed = bool(deleted)
    if changed:
        record(
            chain=group.service.slug,
            action=action,
            subject=f"group:{group.pk}",
            actor=by,
            data={"group": group.name, "username": user.username},
        )
    return changed
