"""Two builds' tests beside each other at the REST API."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from apps.api import Representation, StrictSerializer, read_query
from apps.builds.case_api import CaseOutcomeSerializer, NamedCaseSerializer
from apps.builds.compare import PAGE, PAGE_LIMIT, Comparison, Kind, Slower, to_json
from apps.builds.models import Build


class CaseChangeSerializer(NamedCaseSerializer):
    """A test that went another way than before."""

    kind = serializers.ChoiceField(Kind.choices)
    before = CaseOutcomeSerializer(allow_null=True, help_text="Null where the test was not there.")
    after = CaseOutcomeSerializer(allow_null=True)


class ComparedBuildSerializer(Representation):
    id = serializers.IntegerField()
    codebuild_id = serializers.CharField()
    commit = serializers.CharField()
    source_version = serializers.CharField()
    finished_at = serializers.DateTimeField(allow_null=True)


class SlowerSerializer(Representation):
    factor = serializers.FloatField()
    minimum_ms = serializers.IntegerField()


class ComparisonSerializer(Representation):
    """Two builds' tests beside each other; apps.builds.compare.to_json builds it."""

    build = ComparedBuildSerializer()
    against = ComparedBuildSerializer()
    reliable = serializers.BooleanField(help_text="Whether all reports of both are complete.")
    problems = serializers.ListField(child=serializers.CharField(), help_text="Why it is not reliable.")
    slower_than = SlowerSerializer()
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="All of each kind.")
    cases = CaseChangeSerializer(many=True, help_text="Of the kind asked for, or of each the first ones.")
    next = serializers.URLField(allow_null=True, help_text="The next page of the kind asked for.")


class ComparisonQuerySerializer(StrictSerializer):
    kind = serializers.ChoiceField(
        Kind.choices, required=False, help_text="Show cases of this kind, page by page."
    )
    offset = serializers.IntegerField(
        min_value=0, max_value=2_000_000, default=0, help_text="How many of the kind to pass over."
    )
    page_size = serializers.IntegerField(min_value=1, max_value=PAGE_LIMIT, default=PAGE)
    factor = serializers.FloatField(
        min_value=1,
        max_value=1000,
        default=Slower.factor,
        help_text="A slower test takes so many times as long …",
    )
    minimum_ms = serializers.IntegerField(
        min_value=0,
        max_value=86_400_000,
        default=Slower.minimum_ms,
        help_text="… and so many milliseconds more.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["offset"] and "kind" not in attrs:
            raise serializers.ValidationError({"offset": ["Only pages of one kind have it: name the kind."]})
        return attrs


def comparison_query(request: Request) -> tuple[Slower, dict[str, Any]]:
    """When a test is slower, and which cases are to be shown, as a request asks."""
    told = read_query(request, ComparisonQuerySerializer)
    kind = Kind(told["kind"]) if "kind" in told else None
    shown = {"kind": kind, "offset": told["offset"], "limit": told["page_size"]}
    return Slower(told["factor"], told["minimum_ms"]), shown


def comparison_answer(
    request: Request, comparison: Comparison, *, before: Build, after: Build, shown: Mapping[str, Any]
) -> Response:
    """A comparison with the address of its next page."""
    row = to_json(comparison, before=before, after=after, **shown)
    kind, end = shown["kind"], shown["offset"] + shown["limit"]
    more = kind is not None and row["counts"][str(kind)] > end
    address = request.build_absolute_uri()
    return Response(row | {"next": replace_query_param(address, "offset", end) if more else None})
