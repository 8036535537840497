"""Tokens that are limited to services."""

from collections.abc import Collection, Iterable
from datetime import datetime

from apps.access.models import Token, User
from apps.access.services import create_token
from apps.catalog.models import Service
from apps.errors import Invalid


def issue_token(
    *,
    user: User,
    name: str,
    scopes: Iterable[str],
    services: Collection[Service] | None = None,
    expires_at: datetime | None = None,
) -> tuple[Token, str]:
    """Make a token, good for ``services`` alone if they are given; return it with its secret.

    Raises Invalid, beside what create_token refuses, for a service that the user does not see.
    """
    slugs = None if services is None else {service.slug for service in services}
    if slugs:
        seen = Service.objects.visible_to(user).filter(slug__in=slugs).values_list("slug", flat=True)
        if hidden := sorted(slugs - set(seen)):
            raise Invalid(
                f"{user.username} has no role in {', '.join(hidden)}, so the token would be of no use there: "
                "give the role first."
            )
    return create_token(user=user, name=name, scopes=scopes, services=slugs, expires_at=expires_at)
