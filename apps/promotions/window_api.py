"""Windows at the REST API: when environments may be deployed to."""

from typing import Any

import django_filters
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access.models import Scope
from apps.access.permissions import acting_user
from apps.api import Representation, StrictSerializer, read_body
from apps.catalog.acting import ActedOnViewSet
from apps.catalog.models import Environment
from apps.catalog.visibility import visible
from apps.errors import Invalid, NotFound
from apps.gates.facts import WindowFact
from apps.gates.windows import LONGEST_MINUTES, next_openings
from apps.promotions.models import Window
from apps.promotions.windows import FIELDS, add_window, change_window, remove_window

OPENINGS_SHOWN = 5


class OpeningSerializer(Representation):
    """A time in which a window is open."""

    opens = serializers.DateTimeField()
    shuts = serializers.DateTimeField()


class WindowSerializer(Representation):
    id = serializers.IntegerField()
    service = serializers.SlugField()
    environment = serializers.SlugField()
    kind = serializers.ChoiceField(Window.Kind.choices)
    name = serializers.CharField()
    starts_at = serializers.CharField(help_text="When it first opens, a local time of its time zone.")
    timezone = serializers.CharField()
    minutes = serializers.IntegerField(help_text="How long it stays open each time.")
    rrule = serializers.CharField(help_text="RFC 5545; empty if it opens once.")
    open = serializers.BooleanField(
        allow_null=True, help_text="Whether it is open now; null if this version cannot read it."
    )
    openings = OpeningSerializer(
        many=True, help_text="This one, if it is open, and those that follow within a year; at most five."
    )

    columns = ("id", "environment__service__slug", "environment__slug", *FIELDS)

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        values = {name: row[name] for name in FIELDS}
        return {
            "id": row["id"],
            "service": row["environment__service__slug"],
            "environment": row["environment__slug"],
            **values,
            **_as_it_stands(WindowFact(id=row["id"], **values)),
        }


def _as_it_stands(window: WindowFact) -> dict[str, Any]:
    now = timezone.now()
    try:
        openings = next_openings(window, now, OPENINGS_SHOWN)
        return {
            "open": bool(openings) and openings[0][0] <= now,
            "openings": [{"opens": opens, "shuts": shuts} for opens, shuts in openings],
        }
    except Invalid:
        # Such as a time zone that this machine does not know.
        return {"open": None, "openings": []}


class WindowChangeSerializer(StrictSerializer):
    """What of a window may be changed; the gate's own reading of it has the last word."""

    kind = serializers.ChoiceField(Window.Kind.choices)
    name = serializers.CharField(max_length=60)
    starts_at = serializers.CharField(max_length=16, help_text="Such as 2026-03-01T22:00, without an offset.")
    timezone = serializers.CharField(max_length=64, help_text="Such as Europe/Berlin.")
    minutes = serializers.IntegerField(min_value=1, max_value=LONGEST_MINUTES)
    rrule = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=300,
        help_text="RFC 5545, from HOURLY to YEARLY; empty: once.",
    )


class WindowRequestSerializer(WindowChangeSerializer):
    """A new window of an environment."""

    service = serializers.CharField(max_length=60, help_text="A service's slug.")
    environment = serializers.CharField(max_length=60, help_text="The slug of an environment.")


class WindowFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("environment__service__slug", help_text="A service's slug.")
    environment = django_filters.CharFilter("environment__slug", help_text="An environment's slug.")
    kind = django_filters.ChoiceFilter(choices=Window.Kind.choices)


class WindowViewSet(ActedOnViewSet):
    """When an environment may be deployed to (allow), or may not (deny); the rule in_window asks for them."""

    queryset = Window.objects.all()
    related = ("environment__service",)
    serializer_class = WindowSerializer
    service_path = "environment__service"
    filterset_class = WindowFilter
    required_scopes = {
        "create": [Scope.OPERATE],
        "partial_update": [Scope.OPERATE],
        "destroy": [Scope.OPERATE],
    }

    @extend_schema(request=WindowRequestSerializer, responses={201: WindowSerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Add a window, as an operator; what waits for the environment is judged again."""
        values = read_body(request, WindowRequestSerializer)
        service, slug = values.pop("service"), values.pop("environment")
        environments = visible(Environment.objects.select_related("service"), request.user, "service")
        environment = environments.filter(service__slug=service, slug=slug).first()
        if environment is None:
            raise NotFound(f"There is no environment {slug!r} of a service {service!r} that you can see.")
        window = add_window(environment=environment, by=acting_user(request), **values)
        return self.answer(window.pk, made=True)

    @extend_schema(request=WindowChangeSerializer, responses=WindowSerializer)
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change some of a window's fields, as an operator."""
        window = self.named()
        changes = read_body(request, WindowChangeSerializer, partial=True)
        change_window(window=window, by=acting_user(request), **changes)
        return self.answer(window.pk)

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Remove a window, as an operator; the ledger keeps what it was."""
        remove_window(window=self.named(), by=acting_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)
