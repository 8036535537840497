"""Overrides at the REST API: give one, second it, withdraw it, and see them for ever."""

from typing import Any

import django_filters
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access.models import Scope
from apps.access.permissions import acting_user
from apps.api import COMMENT_LIMIT, CommentSerializer, StrictSerializer, Written, read_body, written
from apps.catalog.acting import ActedOnViewSet
from apps.catalog.visibility import visible
from apps.errors import NotFound
from apps.promotions import overrides
from apps.promotions.models import Override, Promotion


class OverrideRequestSerializer(StrictSerializer):
    """The wish to let a promotion pass against its gate."""

    promotion = serializers.IntegerField(min_value=1, help_text="A promotion's id.")
    rules = serializers.ListField(
        child=serializers.CharField(max_length=60),
        required=False,
        default=list,
        max_length=60,
        help_text="Against which rules; without, all but those that have to be named.",
    )
    justification = serializers.CharField(max_length=COMMENT_LIMIT, help_text="Shown for ever.")
    minutes = serializers.IntegerField(
        min_value=1, help_text="For how long it counts; the policy says how much may be asked for."
    )


@written()
class OverrideBriefSerializer(Written):
    """An override where its promotion is the subject."""

    id = serializers.IntegerField()
    rules = serializers.ListField(
        child=serializers.CharField(), help_text="None: all but those that have to be named."
    )
    justification = serializers.CharField()
    by = serializers.CharField(source="by.username")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    seconded_by = serializers.CharField(source="seconded_by.username", allow_null=True)
    seconded_at = serializers.DateTimeField(allow_null=True)
    withdrawn_by = serializers.CharField(source="withdrawn_by.username", allow_null=True)
    withdrawn_at = serializers.DateTimeField(allow_null=True)


@written()
class OverrideSerializer(OverrideBriefSerializer):
    promotion = serializers.IntegerField(source="promotion_id")
    service = serializers.SlugField(source="promotion.environment.service.slug")
    environment = serializers.SlugField(source="promotion.environment.slug")


class OverrideFilter(django_filters.FilterSet):
    service = django_filters.CharFilter(
        "promotion__environment__service__slug", help_text="A service's slug."
    )
    environment = django_filters.CharFilter(
        "promotion__environment__slug", help_text="An environment's slug."
    )
    promotion = django_filters.NumberFilter("promotion", help_text="A promotion's id.")


class OverrideViewSet(ActedOnViewSet):
    """What operators let pass against a gate, newest first. Whether one counts now is for the gate to say."""

    queryset = Override.objects.all()
    related = ("promotion__environment__service", "promotion__release", "promotion__decision")
    serializer_class = OverrideSerializer
    service_path = "promotion__environment__service"
    filterset_class = OverrideFilter
    required_scopes = {"create": [Scope.OPERATE], "second": [Scope.OPERATE], "withdraw": [Scope.OPERATE]}

    @extend_schema(
        request=OverrideRequestSerializer, responses={200: OverrideSerializer, 201: OverrideSerializer}
    )
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Let a pending promotion pass against its gate, as an operator; asked again it is the same one."""
        said = read_body(request, OverrideRequestSerializer)
        promotions = Promotion.objects.select_related("environment__service", "release", "decision")
        promotion = (
            visible(promotions, request.user, "environment__service").filter(pk=said["promotion"]).first()
        )
        if promotion is None:
            raise NotFound(f"There is no promotion {said['promotion']}; GET /api/v1/promotions/ lists them.")
        asked_at = timezone.now()
        override = overrides.override_promotion(
            promotion=promotion,
            user=acting_user(request),
            justification=said["justification"],
            minutes=said["minutes"],
            rules=said["rules"],
        )
        return self.answer(override.pk, made=override.created_at >= asked_at)

    @extend_schema(request=None, responses=OverrideSerializer)
    @action(detail=True, methods=["post"])
    def second(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Agree to it, as another operator."""
        override = self.named()
        overrides.second_override(override=override, user=acting_user(request))
        return self.answer(override.pk)

    @extend_schema(request=CommentSerializer, responses=OverrideSerializer)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End it before its time, as any operator. What runs because of it stays, and is shown."""
        override = self.named()
        overrides.withdraw_override(override=override, user=acting_user(request), comment=self.comment())
        return self.answer(override.pk)
