"""Releases at the REST API: reading only, since a build makes them."""

from typing import Any

import django_filters
from django.db.models import OuterRef, Subquery
from rest_framework import serializers, viewsets

from apps.api import Representation, RowsMixin, Written, written
from apps.as_json import as_object
from apps.catalog.visibility import VisibleMixin
from apps.releases.migration_source import Level
from apps.releases.models import Release


class ReleaseBriefSerializer(Representation):
    """A release where something else is the subject."""

    # PostgreSQL builds it: brief_release.

    id = serializers.IntegerField()
    version = serializers.CharField()
    commit = serializers.CharField()
    digest = serializers.CharField()


def brief_release() -> Subquery:
    """For rows with a ``release``: that in short, as a JSON object; null where there is none.

    By a subquery, since each join more makes PostgreSQL, and Django, think longer about the whole query.
    """
    release = Release.objects.filter(pk=OuterRef("release"))
    return Subquery(release.values(told=as_object(ReleaseBriefSerializer)))


class ReleaseBuildSerializer(Representation):
    id = serializers.IntegerField(source="build_id")
    codebuild_id = serializers.CharField(source="build.codebuild_id")


@written(build=as_object(ReleaseBuildSerializer))
class ReleaseSerializer(Written):
    id = serializers.IntegerField()
    service = serializers.SlugField(source="service.slug")
    version = serializers.CharField()
    commit = serializers.CharField()
    digest = serializers.CharField(help_text="SHA-256 of the bundle, computed by the server.")
    size = serializers.IntegerField(help_text="Bytes.")
    bucket = serializers.CharField()
    key = serializers.CharField()
    object_version = serializers.CharField()
    etag = serializers.CharField()
    build = ReleaseBuildSerializer(help_text="The newest build that produced exactly this bundle.")
    created_at = serializers.DateTimeField()


class MigrationStepSerializer(Representation):
    """A migration of a release, and what it leaves of the way back; as Step.to_json writes it."""

    app = serializers.CharField()
    name = serializers.CharField()
    level = serializers.ChoiceField([str(level) for level in Level])
    operation = serializers.CharField(help_text="What makes it so; empty for a reversible one.")
    contract = serializers.BooleanField(help_text="Applied on purpose, later; not by a deployment.")
    replaces = serializers.ListField(
        child=serializers.CharField(), help_text="What a squashed one stands for, as app.name."
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return row


class ReleaseDetailSerializer(ReleaseSerializer):
    steps = MigrationStepSerializer(
        many=True,
        allow_null=True,
        help_text="Its migrations, read from their sources; null for a release from before that was done.",
    )
    manifest = serializers.DictField(help_text="manifest.json of the bundle.")

    # These can be large, so lists leave them out.
    columns = (*ReleaseSerializer.columns, "manifest", "steps")

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return super().of(row) | {"steps": row["steps"], "manifest": row["manifest"]}


class ReleaseFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("service__slug", help_text="A service's slug.")
    digest = django_filters.CharFilter("digest")
    commit = django_filters.CharFilter("commit")
    version = django_filters.CharFilter("version")
    build = django_filters.NumberFilter("build", help_text="A build's id.")


class ReleaseViewSet(RowsMixin, VisibleMixin, viewsets.ReadOnlyModelViewSet):
    """What can ship."""

    queryset = Release.objects.all()
    service_path = "service"
    filterset_class = ReleaseFilter

    def get_serializer_class(self) -> type[Representation]:
        return ReleaseSerializer if self.action == "list" else ReleaseDetailSerializer
