"""Services and environments at the REST API: reading only."""

from typing import Any

import django_filters
from django.db.models import F, OuterRef, QuerySet
from rest_framework import serializers, viewsets

from apps.api import Representation, RowsMixin
from apps.as_json import Listed, as_written
from apps.catalog.models import Environment, Service, Upstream
from apps.catalog.visibility import VisibleMixin


class ServiceSerializer(Representation):
    id = serializers.IntegerField()
    slug = serializers.SlugField()
    name = serializers.CharField()
    repository = serializers.CharField()
    bucket = serializers.CharField()
    codebuild_project = serializers.CharField()
    evidence_days = serializers.IntegerField(
        allow_null=True, help_text="For how many days its reports keep their test cases; null is for ever."
    )
    created_at = serializers.DateTimeField()

    columns = (
        "id",
        "slug",
        "name",
        "repository",
        "bucket",
        "codebuild_project",
        "evidence_days",
        "created_at",
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return row


class StandingSerializer(Representation):
    """Whether what runs would still be let in, as it was last judged."""

    release = serializers.IntegerField(help_text="The id of the release that runs.")
    version = serializers.CharField()
    still_passes = serializers.BooleanField()
    verdict = serializers.CharField(help_text="By today's policy, evidence and people.")
    unmet = serializers.ListField(
        child=serializers.DictField(), help_text="Findings, as those of a decision; the worst first."
    )
    since = serializers.DateTimeField(help_text="Since when it passes, or does not.")
    judged_at = serializers.DateTimeField()

    # By lookups only: apps.promotions lies above this app.
    columns = (
        "standing__release",
        "standing__release__version",
        "standing__still_passes",
        "standing__verdict",
        "unmet_json",
        "standing__since",
        "standing__judged_at",
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "release": row["standing__release"],
            "version": row["standing__release__version"],
            "still_passes": row["standing__still_passes"],
            "verdict": row["standing__verdict"],
            "unmet": row["unmet_json"],
            "since": row["standing__since"],
            "judged_at": row["standing__judged_at"],
        }


class EnvironmentSerializer(Representation):
    id = serializers.IntegerField()
    service = serializers.SlugField()
    slug = serializers.SlugField()
    position = serializers.IntegerField(help_text="Deploy order: lower goes first.")
    application = serializers.CharField()
    deployment_group = serializers.CharField()
    upstreams = serializers.ListField(child=serializers.SlugField())
    upstream_mode = serializers.ChoiceField(Environment.UpstreamMode.choices)
    auto_promote = serializers.BooleanField(
        help_text="Whether it asks by itself for what its upstreams have proved."
    )
    standing = StandingSerializer(
        allow_null=True, help_text="Of what runs there; null before it was judged, and where nothing runs."
    )

    columns = (
        "id",
        "service__slug",
        "slug",
        "position",
        "application",
        "deployment_group",
        "upstream_mode",
        "auto_promote",
        "upstreams_json",
        *StandingSerializer.columns,
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        judged = row["standing__still_passes"] is not None
        return {
            "id": row["id"],
            "service": row["service__slug"],
            "slug": row["slug"],
            "position": row["position"],
            "application": row["application"],
            "deployment_group": row["deployment_group"],
            "upstreams": row["upstreams_json"],
            "upstream_mode": row["upstream_mode"],
            "auto_promote": row["auto_promote"],
            "standing": StandingSerializer.of(row) if judged else None,
        }


class EnvironmentFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("service__slug", help_text="A service's slug.")
    slug = django_filters.CharFilter("slug")
    still_passes = django_filters.BooleanFilter(
        "standing__still_passes", help_text="Whether what runs there would still be let in."
    )


def with_json(environments: QuerySet[Environment]) -> QuerySet[Environment]:
    """Each environment with ``upstreams_json``, their slugs, and ``unmet_json``, of its standing."""
    edges = Upstream.objects.filter(environment=OuterRef("pk")).order_by("source__position", "source__slug")
    return environments.annotate(
        upstreams_json=as_written(Listed(edges.values(told=F("source__slug")))),
        unmet_json=as_written("standing__unmet"),
    )


class ServiceViewSet(RowsMixin, VisibleMixin, viewsets.ReadOnlyModelViewSet):
    """What ships."""

    queryset = Service.objects.all()
    serializer_class = ServiceSerializer
    service_path = ""
    lookup_field = "slug"


class EnvironmentViewSet(RowsMixin, VisibleMixin, viewsets.ReadOnlyModelViewSet):
    """Where a service runs, and what it is promoted from."""

    queryset = Environment.objects.all()
    annotated = with_json(queryset)
    serializer_class = EnvironmentSerializer
    service_path = "service"
    filterset_class = EnvironmentFilter
