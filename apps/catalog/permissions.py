"""Who may do what with a service."""

from collections.abc import Collection

from django.http import HttpRequest

from apps.access.models import User
from apps.catalog.models import Membership, Service
from apps.errors import Forbidden, NotFound

Role = Membership.Role
# Who moves releases: registers builds, asks for promotions, cancels them.
MOVERS = frozenset({Role.DEVELOPER, Role.OPERATOR})


def roles_of(*, user: User, service: Service) -> set[str]:
    """The roles that an active user holds in a service; a superuser gets none by being one.

    None either where the request's token is limited to other services.
    """
    if not user.is_active or not user.reaches(service.slug):
        return set()
    return set(Membership.objects.filter(user=user, service=service).values_list("role", flat=True))


def services_as(request: HttpRequest, *roles: str) -> set[int]:
    """The ids of the services in which the request's user holds one of ``roles``.

    For pages, which ask it for each of their buttons and links; the roles are read once per request.
    """
    held: list[tuple[int, str]] | None = getattr(request, "held_roles", None)
    if held is None:
        held = list(Membership.objects.filter(user=request.user.pk).values_list("service", "role"))
        request.held_roles = held  # type: ignore[attr-defined]  # ours
    return {service for service, role in held if role in roles}


def sees_as_superuser(*, user: User, service: Service) -> bool:
    """Whether the user sees the service without a role in it: a superuser whom no token keeps from it."""
    return user.is_active and user.is_superuser and user.reaches(service.slug)


def require_role(*, user: User, service: Service, roles: Collection[str]) -> None:
    """Raise Forbidden unless the user holds one of ``roles``; NotFound to a stranger. Superusers pass."""
    if not sees_as_superuser(user=user, service=service):
        _require(user, service, roles)


def require_held_role(*, user: User, service: Service, role: str) -> None:
    """Raise Forbidden unless the user holds the role, superuser or not; NotFound to a stranger.

    For what somebody must answer for with a role that the ledger shows was given to them.
    """
    _require(user, service, [role])


def _require(user: User, service: Service, roles: Collection[str]) -> None:
    held = roles_of(user=user, service=service)
    if not held and not sees_as_superuser(user=user, service=service):
        # To a stranger the service does not exist.
        raise NotFound(f"There is no service {service.slug!r} that {user.username} can see.")
    if not held & set(roles):
        wanted = " or ".join(sorted(str(role) for role in roles))
        raise Forbidden(f"{user.username} must be {wanted} of {service.slug} for this.")
