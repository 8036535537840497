"""Services and environments at the REST API: reading only."""

import django_filters
from django.db.models import F, OuterRef, Subquery
from rest_framework import serializers, viewsets

from apps.api import Representation, RowsMixin, Written, written
from apps.as_json import Listed, as_object
from apps.catalog.models import Environment, Service, Upstream
from apps.catalog.visibility import VisibleMixin


@written()
class ServiceSerializer(Written):
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


class StandingSerializer(Representation):
    """Whether what runs would still be let in, as it was last judged."""

    release = serializers.IntegerField(help_text="The id of the release that runs.")
    version = serializers.CharField(source="release.version")
    still_passes = serializers.BooleanField()
    verdict = serializers.CharField(help_text="By today's policy, evidence and people.")
    unmet = serializers.ListField(
        child=serializers.DictField(), help_text="Findings, as those of a decision; the worst first."
    )
    since = serializers.DateTimeField(help_text="Since when it passes, or does not.")
    judged_at = serializers.DateTimeField()


def upstreams() -> Listed:
    """Of an environment, the slugs of those that it is promoted from, in their deploy order."""
    edges = Upstream.objects.filter(environment=OuterRef("pk")).order_by("source__position", "source__slug")
    return Listed(edges.values(told=F("source__slug")))


def standing() -> Subquery:
    """Of an environment, its standing; null before it was judged, and where nothing runs."""
    # By way of the model's relation, since apps.promotions lies above this app.
    standings = Environment._meta.get_field("standing").related_model._default_manager
    judged = standings.filter(environment=OuterRef("pk"), still_passes__isnull=False)
    return Subquery(judged.values(told=as_object(StandingSerializer)))


@written(upstreams=upstreams(), standing=standing())
class EnvironmentSerializer(Written):
    id = serializers.IntegerField()
    service = serializers.SlugField(source="service.slug")
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


class EnvironmentFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("service__slug", help_text="A service's slug.")
    slug = django_filters.CharFilter("slug")
    still_passes = django_filters.BooleanFilter(
        "standing__still_passes", help_text="Whether what runs there would still be let in."
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
    serializer_class = EnvironmentSerializer
    service_path = "service"
    filterset_class = EnvironmentFilter
