"""Members see what belongs to their services, and strangers see nothing."""

from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from apps.access.models import User
from apps.catalog.models import Service, services_of

M = TypeVar("M", bound=Model)


def visible(queryset: QuerySet[M], user: Any, path: str) -> QuerySet[M]:
    """The rows whose service, found by the lookup ``path``, the user may see; "" is the service itself."""
    if not isinstance(user, User):
        return queryset.none()
    if user.is_superuser and user.token_services is None:
        return queryset
    limited = user.token_services is not None
    services = Service.objects.visible_to(user).values("pk") if limited else services_of(user)
    return queryset.filter(**{f"{path}__in" if path else "pk__in": services})


class VisibleMixin:
    """A view set that holds only what its user may see; everything else is a 404."""

    service_path: str

    def get_queryset(self) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset()  # type: ignore[misc]  # from GenericAPIView
        user = self.request.user  # type: ignore[attr-defined]  # likewise
        return visible(queryset, user, self.service_path)
