"""Test cases at the REST API: by what names them, and through the builds."""

from contextlib import nullcontext
from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import Representation, RowsMixin, StrictSerializer, Written, read_query, written
from apps.as_json import as_text
from apps.builds.history import RUNS, RUNS_LIMIT, case_history, search_cases
from apps.builds.models import TestCase
from apps.builds.parsers.case import Outcome
from apps.catalog.visibility import VisibleMixin
from apps.search import bounded_search


class NamedCaseSerializer(Representation):
    """A test by what names it; apps.builds.naming.CaseName."""

    case = serializers.CharField(help_text="The test's id; a string, since it is a large number.")
    group = serializers.CharField(help_text="Its report group.")
    suite = serializers.CharField()
    class_name = serializers.CharField()
    name = serializers.CharField()
    ordinal = serializers.IntegerField(help_text="Tells tests of the same name in one report apart.")


class CaseOutcomeSerializer(Representation):
    """How a test ended in a report."""

    outcome = serializers.ChoiceField([each.value for each in Outcome])
    duration_ns = serializers.IntegerField(help_text="In steps of 10,000.")
    flaky = serializers.BooleanField(
        help_text="Whether attempts of it both failed and passed in this report."
    )


@written(id=as_text("id"))
class TestCaseSerializer(Written):
    """A test of a service."""

    __test__ = False

    id = serializers.CharField(help_text="A string, since it is a large number.")
    service = serializers.SlugField(source="service.slug")
    group = serializers.CharField(help_text="Its report group.")
    suite = serializers.CharField()
    class_name = serializers.CharField()
    name = serializers.CharField()
    ordinal = serializers.IntegerField(help_text="Tells tests of the same name in one report apart.")


class RunSerializer(Representation):
    """How a test ended in one report."""

    report = serializers.IntegerField()
    build = serializers.IntegerField()
    commit = serializers.CharField()
    source_version = serializers.CharField()
    finished_at = serializers.DateTimeField(allow_null=True)
    complete = serializers.BooleanField(help_text="Whether the report is.")
    ended = CaseOutcomeSerializer(allow_null=True, help_text="Null where the report does not have the test.")
    message = serializers.CharField()


class HistorySerializer(TestCaseSerializer):
    """A test through the newest reports of its group; apps.builds.history.History.to_json builds it."""

    first_failure = RunSerializer(allow_null=True, help_text="The oldest of these runs that failed.")
    last_pass = RunSerializer(allow_null=True, help_text="The newest that passed.")
    failing_since = RunSerializer(
        allow_null=True, help_text="The first that failed after the last that passed; null if none did."
    )
    runs = RunSerializer(many=True, help_text="Newest first.")


class HistoryQuerySerializer(StrictSerializer):
    limit = serializers.IntegerField(
        min_value=1, max_value=RUNS_LIMIT, default=RUNS, help_text="How many reports to look at."
    )
    branch = serializers.CharField(
        max_length=1024, default="", help_text="Only builds of this source_version."
    )


class TestCaseFilter(django_filters.FilterSet):
    __test__ = False

    service = django_filters.CharFilter("service__slug", help_text="A service's slug.")
    group = django_filters.CharFilter("group", help_text="A report group's name.")
    search = django_filters.CharFilter(
        method="find", help_text="A part of the class or the name; Class::name looks for each in its own."
    )

    def find(self, cases: QuerySet[TestCase], name: str, value: str) -> QuerySet[TestCase]:
        return search_cases(cases, value)


class TestCaseViewSet(RowsMixin, VisibleMixin, viewsets.ReadOnlyModelViewSet):
    """The tests of all reports, by name, and how each ended through the builds."""

    __test__ = False

    queryset = TestCase.objects.all()
    serializer_class = TestCaseSerializer
    service_path = "service"
    filterset_class = TestCaseFilter
    lookup_value_regex = "-?[0-9]+"

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List them; a search that would take too long is a 400."""
        with bounded_search() if request.query_params.get("search") else nullcontext():
            return super().list(request, *args, **kwargs)

    @extend_schema(parameters=[HistoryQuerySerializer], responses=HistorySerializer)
    @action(detail=True)
    def history(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Tell how a test ended in the newest reports of its group, and since when it fails."""
        query = read_query(request, HistoryQuerySerializer)
        row = self.get_object()
        case = TestCase.objects.only("report_group", "position").get(pk=row["id"])
        told = case_history(case, **query)
        return Response(TestCaseSerializer.of(row) | told.to_json())
