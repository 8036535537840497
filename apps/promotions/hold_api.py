"""Pins and vetoes at the REST API: set them, see them, lift them."""

from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access.models import Scope
from apps.access.permissions import acting_user
from apps.api import (
    COMMENT_LIMIT,
    CommentSerializer,
    StrictSerializer,
    Written,
    read_body,
    written,
)
from apps.catalog.acting import ActedOnViewSet
from apps.catalog.models import Environment, Service
from apps.catalog.visibility import visible
from apps.errors import NotFound
from apps.promotions import holds
from apps.promotions.models import Pin, Veto
from apps.releases.api import ReleaseBriefSerializer, brief_release
from apps.releases.models import Release


class PinRequestSerializer(StrictSerializer):
    """The wish to hold an environment at a release."""

    service = serializers.CharField(max_length=60, help_text="A service's slug.")
    environment = serializers.CharField(max_length=60, help_text="The slug of one of its environments.")
    release = serializers.IntegerField(
        min_value=1, required=False, help_text="A release's id; without, what runs there now."
    )
    reason = serializers.CharField(max_length=COMMENT_LIMIT, help_text="What others read who are held up.")
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="Until when it holds; without, until somebody lifts it."
    )


class VetoRequestSerializer(StrictSerializer):
    """The wish to keep a release from an environment, or from all."""

    release = serializers.IntegerField(min_value=1, help_text="A release's id.")
    environment = serializers.CharField(
        max_length=60, required=False, help_text="The slug of one; without, every environment of the service."
    )
    reason = serializers.CharField(max_length=COMMENT_LIMIT, help_text="What others read who are held up.")


@written(release=brief_release())
class PinSerializer(Written):
    id = serializers.IntegerField()
    service = serializers.SlugField(source="environment.service.slug")
    environment = serializers.SlugField(source="environment.slug")
    release = ReleaseBriefSerializer(help_text="What the environment is held at.")
    reason = serializers.CharField()
    by = serializers.CharField(source="by.username")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    lifted_at = serializers.DateTimeField(allow_null=True)
    lifted_by = serializers.CharField(source="lifted_by.username", allow_null=True)


@written(release=brief_release())
class VetoSerializer(Written):
    id = serializers.IntegerField()
    service = serializers.SlugField(source="release.service.slug")
    environment = serializers.SlugField(
        source="environment.slug", allow_null=True, help_text="Null: every environment of the service."
    )
    release = ReleaseBriefSerializer()
    reason = serializers.CharField()
    by = serializers.CharField(source="by.username")
    created_at = serializers.DateTimeField()
    lifted_at = serializers.DateTimeField(allow_null=True)
    lifted_by = serializers.CharField(source="lifted_by.username", allow_null=True)


class PinFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("environment__service__slug", help_text="A service's slug.")
    environment = django_filters.CharFilter("environment__slug", help_text="An environment's slug.")
    release = django_filters.NumberFilter("release", help_text="A release's id.")
    stands = django_filters.BooleanFilter(method="by_standing", help_text="Whether it holds now.")

    def by_standing(self, queryset: QuerySet[Pin], name: str, value: bool) -> QuerySet[Pin]:
        standing = Pin.objects.standing().values("pk")
        return queryset.filter(pk__in=standing) if value else queryset.exclude(pk__in=standing)


class VetoFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("release__service__slug", help_text="A service's slug.")
    environment = django_filters.CharFilter(
        method="in_environment",
        help_text="An environment's slug: what is vetoed for it, or for every one of its service.",
    )
    release = django_filters.NumberFilter("release", help_text="A release's id.")
    stands = django_filters.BooleanFilter(
        "lifted_at", lookup_expr="isnull", help_text="Whether it holds now."
    )

    def in_environment(self, queryset: QuerySet[Veto], name: str, value: str) -> QuerySet[Veto]:
        services = Environment.objects.filter(slug=value).values("service")
        everywhere = Q(environment=None, release__service__in=services)
        return queryset.filter(Q(environment__slug=value) | everywhere)


class HoldViewSet(ActedOnViewSet):
    """What the views of pins and vetoes share."""

    def release(self, key: int) -> Release:
        releases = visible(Release.objects.select_related("service"), self.request.user, "service")
        release = releases.filter(pk=key).first()
        if release is None:
            raise NotFound(f"There is no release {key}; GET /api/v1/releases/ lists them.")
        return release

    def environment(self, service: Service, slug: str) -> Environment:
        environment = service.environments.select_related("service").filter(slug=slug).first()
        if environment is None:
            known = ", ".join(service.environments.values_list("slug", flat=True))
            raise NotFound(f"{service.slug} has no environment {slug!r}; it has {known or 'none'}.")
        return environment


class PinViewSet(HoldViewSet):
    """Environments held at a release; newest first, those that were lifted too."""

    queryset = Pin.objects.all()
    related = ("environment__service",)
    serializer_class = PinSerializer
    service_path = "environment__service"
    filterset_class = PinFilter
    required_scopes = {"create": [Scope.OPERATE], "lift": [Scope.OPERATE]}

    @extend_schema(request=PinRequestSerializer, responses={200: PinSerializer, 201: PinSerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Hold an environment at a release, as an operator; asked again it is the same pin, with 200."""
        said = read_body(request, PinRequestSerializer)
        service = visible(Service.objects.all(), request.user, "").filter(slug=said["service"]).first()
        if service is None:
            raise NotFound(f"There is no service {said['service']!r}; GET /api/v1/services/ lists them.")
        asked_at = timezone.now()
        pin = holds.pin_environment(
            environment=self.environment(service, said["environment"]),
            release=self.release(said["release"]) if "release" in said else None,
            user=acting_user(request),
            reason=said["reason"],
            expires_at=said.get("expires_at"),
        )
        return self.answer(pin.pk, made=pin.created_at >= asked_at)

    @extend_schema(request=CommentSerializer, responses=PinSerializer)
    @action(detail=True, methods=["post"])
    def lift(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Let the environment go, as an operator."""
        pin = self.named()
        holds.lift_pin(pin=pin, user=acting_user(request), comment=self.comment())
        return self.answer(pin.pk)


class VetoViewSet(HoldViewSet):
    """Releases kept from an environment, or from all; newest first, those that were lifted too."""

    queryset = Veto.objects.all()
    related = ("release__service", "environment")
    serializer_class = VetoSerializer
    service_path = "release__service"
    filterset_class = VetoFilter
    # Of approvers and of operators alike.
    required_scopes = {
        "create": [Scope.APPROVE, Scope.OPERATE],
        "lift": [Scope.APPROVE, Scope.OPERATE],
    }

    @extend_schema(request=VetoRequestSerializer, responses={200: VetoSerializer, 201: VetoSerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Veto a release, as an approver or operator; asked again it is the same veto, with 200."""
        said = read_body(request, VetoRequestSerializer)
        release = self.release(said["release"])
        asked_at = timezone.now()
        veto = holds.veto_release(
            release=release,
            environment=self.environment(release.service, said["environment"])
            if "environment" in said
            else None,
            user=acting_user(request),
            reason=said["reason"],
        )
        return self.answer(veto.pk, made=veto.created_at >= asked_at)

    @extend_schema(request=CommentSerializer, responses=VetoSerializer)
    @action(detail=True, methods=["post"])
    def lift(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Take the veto back, as an approver or operator."""
        veto = self.named()
        holds.lift_veto(veto=veto, user=acting_user(request), comment=self.comment())
        return self.answer(veto.pk)
