"""A build's coverage by file at the REST API."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from apps.api import Representation, StrictSerializer
from apps.builds.coverage import Comparison


class CoverageQuerySerializer(StrictSerializer):
    """Which coverage, compared with what, and which of its files."""

    report = serializers.CharField(
        required=False,
        default="",
        help_text="A report's name; needed where the build has several of coverage.",
    )
    against = serializers.IntegerField(
        required=False,
        default=None,
        min_value=1,
        max_value=2**63 - 1,
        help_text="The id of another build of the service, to be compared with.",
    )
    order = serializers.ChoiceField(
        ["path", "change", "missed"],
        required=False,
        default="path",
        help_text="By path; what lost most first; or what has most lines that no test ran first.",
    )
    changed = serializers.BooleanField(
        required=False, default=False, help_text="Without the files that are the same in both builds."
    )
    page = serializers.IntegerField(required=False, default=1, min_value=1, max_value=100_000)
    page_size = serializers.IntegerField(required=False, default=50, min_value=1, max_value=200)


class CoverageCountsSerializer(Representation):
    lines_covered = serializers.IntegerField()
    lines_total = serializers.IntegerField()
    branches_covered = serializers.IntegerField(allow_null=True)
    branches_total = serializers.IntegerField(allow_null=True)
    percent = serializers.FloatField(
        allow_null=True, help_text="Of the lines, rounded down; null where there is none."
    )


class CoveredFileSerializer(Representation):
    """A source file; ``now`` is null where only the other build has it, ``before`` where only this one."""

    path = serializers.CharField()
    now = CoverageCountsSerializer(allow_null=True)
    before = CoverageCountsSerializer(allow_null=True)
    change = serializers.FloatField(allow_null=True, help_text="Percentage points of lines.")


class CoverageSerializer(Representation):
    """Coverage by file, a page of it. apps.builds.coverage builds it."""

    build = serializers.IntegerField()
    report = serializers.CharField()
    against = serializers.IntegerField(allow_null=True, help_text="The build that it is compared with.")
    now = CoverageCountsSerializer(help_text="Of the whole report.")
    before = CoverageCountsSerializer(allow_null=True)
    change = serializers.FloatField(allow_null=True, help_text="Percentage points of lines.")
    next = serializers.URLField(allow_null=True, help_text="The next page of files.")
    files = CoveredFileSerializer(many=True)


def coverage_answer(request: Request, comparison: Comparison, query: Mapping[str, Any]) -> Response:
    """A page of the files, as a CoverageQuerySerializer asks, with the address of the next."""
    files = comparison.ordered(query["order"], changed=query["changed"])
    end = query["page"] * query["page_size"]
    address = request.build_absolute_uri()
    row = comparison.to_json() | {
        "next": replace_query_param(address, "page", query["page"] + 1) if end < len(files) else None,
        "files": [file.to_json() for file in files[end - query["page_size"] : end]],
    }
    return Response(row)
