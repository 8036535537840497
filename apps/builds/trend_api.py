"""From build to build, at the REST API."""

from collections.abc import Sequence
from typing import Any

import django_filters
from rest_framework import mixins, serializers, viewsets

from apps.api import Representation, RowsMixin
from apps.builds import trends
from apps.builds.models import Build
from apps.catalog.visibility import VisibleMixin


class TrendSerializer(Representation):
    """A build with the totals of its reports; apps.builds.trends adds them up."""

    id = serializers.IntegerField(help_text="The build's.")
    service = serializers.SlugField()
    codebuild_id = serializers.CharField()
    commit = serializers.CharField()
    source_version = serializers.CharField()
    status = serializers.ChoiceField(Build.Status.choices)
    finished_at = serializers.DateTimeField(allow_null=True)
    tests = serializers.IntegerField()
    passed = serializers.IntegerField()
    failed = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]  # the name of DRF's own property
    skipped = serializers.IntegerField()
    unknown = serializers.IntegerField()
    pass_rate = serializers.FloatField(
        allow_null=True, help_text="Percent of the executed tests, rounded down; null where none was."
    )
    duration_ns = serializers.IntegerField(help_text="What the tests took, added up.")
    lines_covered = serializers.IntegerField(allow_null=True)
    lines_total = serializers.IntegerField(allow_null=True)
    line_rate = serializers.FloatField(allow_null=True, help_text="Percent of the lines, rounded down.")
    complete = serializers.BooleanField(help_text="Whether each of its reports is.")

    columns = trends.COLUMNS

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return trends.as_told(row)


class TrendFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("service__slug", help_text="A service's slug.")
    branch = django_filters.CharFilter("source_version", help_text="What CodeBuild was told to build.")
    report = django_filters.CharFilter("reports__name", help_text="Add up the reports of this name alone.")


class TrendViewSet(RowsMixin, VisibleMixin, mixins.ListModelMixin, viewsets.GenericViewSet):
    """From build to build: tests, pass rate, duration and coverage. Only builds whose reports were read."""

    queryset = trends.read_builds()
    serializer_class = TrendSerializer
    service_path = "service"
    filterset_class = TrendFilter

    def nest(self, rows: Sequence[dict[str, Any]]) -> None:
        trends.add_totals(list(rows), report=self.request.query_params.get("report", ""))
