"""Builds, their reports and what did not pass in them, at the REST API."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import IO, Any, ClassVar, cast

import django_filters
import orjson
from django.db.models import OuterRef, QuerySet
from django.db.models.fields.json import KT
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.utils.urls import replace_query_param

from apps.access.models import Scope
from apps.access.permissions import acting_user
from apps.api import Polled, Representation, RowsMixin, StrictSerializer, below, read_body, read_query
from apps.as_json import CompiledOnce, as_object, as_written
from apps.builds import trends
from apps.builds.compare import PAGE, PAGE_LIMIT, Comparison, Kind, Slower, compare_builds, to_json
from apps.builds.coverage import compare_coverage, coverage_report
from apps.builds.history import RUNS, RUNS_LIMIT, bounded_search, case_history, search_cases
from apps.builds.models import Build, Report, ReportFile, TestCase, TestResult, is_complete
from apps.builds.parsers.case import Outcome
from apps.builds.received import ReceivedFile, ReportsParser
from apps.builds.report import FAILURES_SHOWN, SLOWEST_SHOWN, failures, slowest_cases
from apps.builds.services import register_build
from apps.builds.uploads import SentFile, add_report
from apps.catalog.models import Service
from apps.catalog.permissions import MOVERS, require_role
from apps.catalog.visibility import VisibleMixin, visible
from apps.errors import NotFound

# Which of a build's exported variables names its bundle.
BUNDLE_DIGEST = "LOCKKEEPER_BUNDLE_SHA256"


class BuildRequestSerializer(StrictSerializer):
    """A build that CodeBuild has started."""

    service = serializers.CharField(max_length=60, help_text="The slug of a service.")
    codebuild_id = serializers.CharField(max_length=300, help_text="project:uuid")
    commit = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=40,
        help_text="40 hexadecimal digits; needed where CodeBuild does not know it (a source in S3).",
    )
    pipeline_url = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=2000,
        help_text="The page of the pipeline's run that started it, such as Jenkins' BUILD_URL.",
    )


class BuiltReleaseSerializer(Representation):
    """The release that a build produced, in short."""

    id = serializers.IntegerField()
    version = serializers.CharField()
    digest = serializers.CharField()

    # PostgreSQL builds it: with_release.


def with_release(builds: QuerySet[Build]) -> QuerySet[Build]:
    """Each build with ``made``: the release of the bundle that it exported, once the server has read that.

    The same bundle may have been built before or since, so this goes by its digest; a release that still
    stands on an older build has not been compared with this one's.
    """
    # By way of the model's relation, since apps.releases lies above this app.
    release = Build._meta.get_field("releases").related_model
    bundle = release._default_manager.filter(
        service=OuterRef("service"), digest=OuterRef("exported_digest"), build__gte=OuterRef("pk")
    )
    brief = CompiledOnce(bundle.values(brief=as_object(BuiltReleaseSerializer))[:1])
    return builds.annotate(exported_digest=KT(f"exports__{BUNDLE_DIGEST}"), made=as_written(brief))


def made(row: dict[str, Any]) -> orjson.Fragment | None:
    """The release, in short, of a build from with_release."""
    return row["made"] if row["collected_at"] and not row["problem"] else None


def is_final(row: dict[str, Any]) -> bool:
    """Whether nothing of a build from with_release will change any more."""
    read = row["problem"] or not row["exported_digest"] or row["made"]
    return row["collected_at"] is not None and bool(read)


class ReportSerializer(Representation):
    id = serializers.IntegerField()
    name = serializers.CharField()
    source = serializers.ChoiceField(Report.Source.choices)  # type: ignore[assignment]  # DRF has such a property
    asserted_by = serializers.CharField(
        allow_null=True, help_text="Who sent it; null where Lockkeeper read it from CodeBuild itself."
    )
    arn = serializers.CharField(allow_null=True)
    type = serializers.CharField()
    status = serializers.CharField(help_text="CodeBuild's own.")
    complete = serializers.BooleanField(help_text="Whether a gate may rely on it.")
    problem = serializers.CharField(help_text="Why it is not complete.")
    truncated = serializers.BooleanField()
    declared = serializers.IntegerField(allow_null=True)
    returned = serializers.IntegerField(allow_null=True)
    parsed = serializers.IntegerField(allow_null=True)
    passed = serializers.IntegerField()
    failed = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]  # likewise
    skipped = serializers.IntegerField()
    unknown = serializers.IntegerField()
    duration_ns = serializers.IntegerField()
    lines_covered = serializers.IntegerField(allow_null=True, help_text="Of a coverage report.")
    lines_total = serializers.IntegerField(allow_null=True)
    branches_covered = serializers.IntegerField(allow_null=True)
    branches_total = serializers.IntegerField(allow_null=True)
    pruned_at = serializers.DateTimeField(
        allow_null=True, help_text="When its cases were removed; its counters stayed."
    )

    columns: ClassVar[tuple[str, ...]] = (
        "id",
        "name",
        "source",
        "asserted_by__username",
        "arn",
        "type",
        "status",
        "problem",
        "truncated",
        "declared",
        "returned",
        "parsed",
        "passed",
        "failed",
        "errors",
        "skipped",
        "unknown",
        "duration_ns",
        "lines_covered",
        "lines_total",
        "branches_covered",
        "branches_total",
        "pruned_at",
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        own = {name: row[name] for name in ReportSerializer.columns if name != "asserted_by__username"}
        return own | {"asserted_by": row["asserted_by__username"], "complete": is_complete(row)}


class BuildSerializer(Representation):
    id = serializers.IntegerField()
    service = serializers.SlugField()
    codebuild_id = serializers.CharField()
    number = serializers.IntegerField(allow_null=True)
    commit = serializers.CharField()
    source_version = serializers.CharField()
    status = serializers.ChoiceField(Build.Status.choices)
    deviations = serializers.ListField(
        allow_null=True, help_text="How it differed from its project's definition; null until that is known."
    )
    problem = serializers.CharField()
    log_url = serializers.CharField()
    pipeline_url = serializers.CharField(help_text="The pipeline's run that registered it; may be empty.")
    release = BuiltReleaseSerializer(
        allow_null=True, help_text="What it made; where it is null in the end, problem or status says why."
    )
    final = serializers.BooleanField(help_text="Whether its evidence and its bundle have been read.")
    requested_by = serializers.CharField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    collected_at = serializers.DateTimeField(allow_null=True)

    columns = (
        "id",
        "service__slug",
        "codebuild_id",
        "number",
        "commit",
        "source_version",
        "status",
        "deviations",
        "problem",
        "log_url",
        "pipeline_url",
        "exported_digest",
        "made",
        "requested_by__username",
        "started_at",
        "finished_at",
        "created_at",
        "collected_at",
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": row["id"],
            "service": row["service__slug"],
            "codebuild_id": row["codebuild_id"],
            "number": row["number"],
            "commit": row["commit"],
            "source_version": row["source_version"],
            "status": row["status"],
            "deviations": row["deviations"],
            "problem": row["problem"],
            "log_url": row["log_url"],
            "pipeline_url": row["pipeline_url"],
            "release": made(row),
            "final": is_final(row),
            "requested_by": row["requested_by__username"],
            "started_at": row["started_at"],
            "finished_at": row["finished_at"],
            "created_at": row["created_at"],
            "collected_at": row["collected_at"],
        }


class BuildDetailSerializer(BuildSerializer):
    reports = ReportSerializer(many=True)

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        reports = [ReportSerializer.of(each) for each in row["reports"]]
        return super().of(row) | {"reports": reports}


class TestResultSerializer(Representation):
    """A test case that did not pass."""

    __test__ = False  # pytest would take it for a test

    report = serializers.CharField()
    suite = serializers.CharField()
    class_name = serializers.CharField()
    name = serializers.CharField()
    ordinal = serializers.IntegerField()
    status = serializers.ChoiceField(TestResult.Status.choices)
    duration_ns = serializers.IntegerField()
    message = serializers.CharField()

    columns = (
        "report__name",
        "case__suite",
        "case__class_name",
        "case__name",
        "case__ordinal",
        "status",
        "duration_ns",
        "message",
        # For the pages' cursor.
        "id",
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "report": row["report__name"],
            "suite": row["case__suite"],
            "class_name": row["case__class_name"],
            "name": row["case__name"],
            "ordinal": row["case__ordinal"],
            "status": row["status"],
            "duration_ns": row["duration_ns"],
            "message": row["message"],
        }


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


class ReportRequestSerializer(StrictSerializer):
    """A report that was made elsewhere, in one or more files: a form of the type multipart/form-data."""

    name = serializers.CharField(max_length=200, help_text="What policies call it: the report group's name.")
    format = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=40,
        help_text="What the files have to be, as in a buildspec's file-format; else their content tells.",
    )
    file = serializers.ListField(
        child=serializers.FileField(allow_empty_file=True, max_length=255),
        help_text="The files: as they are, packed with gzip, or in ZIP archives.",
    )


class CaseOutcomeSerializer(Representation):
    """How a test ended in a report."""

    outcome = serializers.ChoiceField([each.value for each in Outcome])
    duration_ns = serializers.IntegerField(help_text="In steps of 10,000.")
    flaky = serializers.BooleanField(
        help_text="Whether attempts of it both failed and passed in this report."
    )


class NamedCaseSerializer(Representation):
    """A test by what names it; apps.builds.naming.CaseName."""

    case = serializers.CharField(help_text="The test's id; a string, since it is a large number.")
    group = serializers.CharField(help_text="Its report group.")
    suite = serializers.CharField()
    class_name = serializers.CharField()
    name = serializers.CharField()
    ordinal = serializers.IntegerField(help_text="Tells tests of the same name in one report apart.")


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


class ReportFileSerializer(Representation):
    """A raw file in S3, as it was read."""

    bucket = serializers.CharField()
    key = serializers.CharField()
    version = serializers.CharField()
    size = serializers.IntegerField(help_text="In bytes.")
    sha256 = serializers.CharField()

    columns = ("bucket", "key", "version", "size", "sha256")

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return {name: row[name] for name in cls.columns}


class ReportOfBuildSerializer(ReportSerializer):
    """A report with the build that it is of."""

    service = serializers.SlugField()
    build = serializers.IntegerField()
    codebuild_id = serializers.CharField()
    commit = serializers.CharField()
    created_at = serializers.DateTimeField()

    columns = (
        *ReportSerializer.columns,
        "build__service__slug",
        "build",
        "build__codebuild_id",
        "build__commit",
        "created_at",
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return super().of(row) | {
            "service": row["build__service__slug"],
            "build": row["build"],
            "codebuild_id": row["build__codebuild_id"],
            "commit": row["build__commit"],
            "created_at": row["created_at"],
        }


class SlowCaseSerializer(NamedCaseSerializer):
    outcome = serializers.ChoiceField([each.value for each in Outcome])
    duration_ns = serializers.IntegerField(help_text="In steps of 10,000.")
    flaky = serializers.BooleanField()


class FailureSerializer(NamedCaseSerializer):
    status = serializers.ChoiceField(TestResult.Status.choices)
    duration_ns = serializers.IntegerField()
    message = serializers.CharField(help_text="Message and details, at most 2,000 characters.")


class ReportLinksSerializer(Representation):
    build = serializers.URLField()
    results = serializers.URLField(help_text="All of its tests that did not pass.")
    page = serializers.URLField(help_text="Its page in the admin site.")


class ReportDetailSerializer(ReportOfBuildSerializer):
    """A report: counts, what failed, what took longest, and where it came from."""

    failures = FailureSerializer(many=True, help_text=f"The first {FAILURES_SHOWN}; links.results has all.")
    slowest = SlowCaseSerializer(many=True, help_text=f"The {SLOWEST_SHOWN} that took longest.")
    files = ReportFileSerializer(many=True)
    links = ReportLinksSerializer()

    def to_representation(self, row: dict[str, Any]) -> dict[str, Any]:
        request, build = self.context["request"], row["build"]
        results = reverse("test-result-list", kwargs={"build": build}, request=request)
        return self.of(row) | {
            "failures": row["failures"],
            "slowest": row["slowest"],
            "files": [ReportFileSerializer.of(each) for each in row["files"]],
            "links": {
                "build": reverse("build-detail", args=[build], request=request),
                "results": replace_query_param(results, "report", row["name"]),
                "page": reverse("admin:builds_report_change", args=[row["id"]], request=request),
            },
        }


class TestCaseSerializer(Representation):
    """A test of a service."""

    __test__ = False

    id = serializers.CharField(help_text="A string, since it is a large number.")
    service = serializers.SlugField()
    group = serializers.CharField(help_text="Its report group.")
    suite = serializers.CharField()
    class_name = serializers.CharField()
    name = serializers.CharField()
    ordinal = serializers.IntegerField(help_text="Tells tests of the same name in one report apart.")

    columns = ("id", "service__slug", "group", "suite", "class_name", "name", "ordinal")

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": str(row["id"]),
            "service": row["service__slug"],
            "group": row["group"],
            "suite": row["suite"],
            "class_name": row["class_name"],
            "name": row["name"],
            "ordinal": row["ordinal"],
        }


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


class BuildFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("service__slug", help_text="A service's slug.")
    codebuild_id = django_filters.CharFilter("codebuild_id")
    commit = django_filters.CharFilter("commit")
    status = django_filters.ChoiceFilter(choices=Build.Status.choices)


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


class ReportFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("build__service__slug", help_text="A service's slug.")
    build = django_filters.NumberFilter("build", help_text="A build's id.")
    name = django_filters.CharFilter("name")
    type = django_filters.CharFilter("type")


class TestCaseFilter(django_filters.FilterSet):
    __test__ = False

    service = django_filters.CharFilter("service__slug", help_text="A service's slug.")
    group = django_filters.CharFilter("group", help_text="A report group's name.")
    search = django_filters.CharFilter(
        method="find", help_text="A part of the class or the name; Class::name looks for each in its own."
    )

    def find(self, cases: QuerySet[TestCase], name: str, value: str) -> QuerySet[TestCase]:
        return search_cases(cases, value)


class TestResultFilter(django_filters.FilterSet):
    __test__ = False

    report = django_filters.CharFilter("report__name", help_text="A report's name.")
    status = django_filters.ChoiceFilter(choices=TestResult.Status.choices)


class BuildViewSet(RowsMixin, VisibleMixin, Polled, mixins.ListModelMixin, viewsets.GenericViewSet):
    """CodeBuild's runs, and the evidence that the server read of them."""

    queryset = with_release(Build.objects.all())
    serializer_class = BuildSerializer
    service_path = "service"
    filterset_class = BuildFilter
    required_scopes: ClassVar = {"create": [Scope.CI]}

    def nest(self, rows: Sequence[dict[str, Any]]) -> None:
        if self.action != "list":
            reports = Report.objects.values("build", *ReportSerializer.columns)
            below(rows, "reports", reports, "build")

    @extend_schema(
        request=BuildRequestSerializer, responses={200: BuildDetailSerializer, 201: BuildDetailSerializer}
    )
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Register a CodeBuild build: 201, or 200 if it is known. CodeBuild is asked at once."""
        body = read_body(request, BuildRequestSerializer)
        user, slug = acting_user(request), body["service"]
        service = Service.objects.visible_to(user).filter(slug=slug).first()
        if service is None:
            raise NotFound(f"There is no service {slug!r} of which {user.username} is a member.")
        build, created = register_build(
            service=service,
            codebuild_id=body["codebuild_id"],
            commit=body["commit"],
            pipeline_url=body["pipeline_url"],
            requested_by=user,
        )
        row = self.get_queryset().get(pk=build.pk)
        self.nest([row])
        data = self.get_serializer(row).data
        location = reverse("build-detail", args=[build.pk], request=request)
        if created:
            return Response(data, status=status.HTTP_201_CREATED, headers={"Location": location})
        return Response(data)

    @extend_schema(parameters=[CoverageQuerySerializer], responses=CoverageSerializer)
    @action(detail=True, methods=["get"])
    def coverage(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Tell its coverage by file, with the change against another build."""
        query = read_query(request, CoverageQuerySerializer)
        builds = visible(Build.objects.all(), request.user, self.service_path)
        build: Build = get_object_or_404(builds, pk=self.kwargs["pk"])
        against = builds.filter(pk=query["against"]).first()
        if query["against"] and against is None:
            raise NotFound(f"There is no build {query['against']} to compare with.")
        comparison = compare_coverage(coverage_report(build, query["report"]), against)
        files = comparison.ordered(query["order"], changed=query["changed"])
        end = query["page"] * query["page_size"]
        address = request.build_absolute_uri()
        row = comparison.to_json() | {
            "next": replace_query_param(address, "page", query["page"] + 1) if end < len(files) else None,
            "files": [file.to_json() for file in files[end - query["page_size"] : end]],
        }
        return Response(row)

    @extend_schema(
        parameters=[
            ComparisonQuerySerializer,
            OpenApiParameter("against", int, OpenApiParameter.PATH, description="An earlier build's id."),
        ],
        responses=ComparisonSerializer,
    )
    @action(detail=True, url_path=r"comparison/(?P<against>[0-9]+)")
    def comparison(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Compare a build's tests with those of another build of its service."""
        than, shown = comparison_query(request)
        builds = visible(Build.objects.all(), request.user, self.service_path)
        after = get_object_or_404(builds, pk=kwargs["pk"])
        before = get_object_or_404(builds, pk=kwargs["against"])
        comparison = compare_builds(before=before, after=after, than=than)
        return comparison_answer(request, comparison, before=before, after=after, shown=shown)

    def get_serializer_class(self) -> type[Representation]:
        return BuildSerializer if self.action == "list" else BuildDetailSerializer

    def retry_after(self, row: dict[str, Any]) -> int | None:
        return None if is_final(row) else 3


OF_BUILD = [OpenApiParameter("build", int, OpenApiParameter.PATH, description="A build's id.")]


class OfBuild(RowsMixin, viewsets.GenericViewSet):
    """What hangs below one build, which the user has to see."""

    def build(self) -> Build:
        """The build of the address; NotFound if there is none that the user sees."""
        build = self.named().select_related("service").first()
        if build is None:
            raise self.missing()
        return build

    def build_id(self) -> int:
        """Its id alone, which a list needs; NotFound likewise."""
        if not self.named().exists():
            raise self.missing()
        return int(self.kwargs["build"])

    def named(self) -> QuerySet[Build]:
        builds = Build.objects.filter(pk=self.kwargs["build"])
        return visible(builds, self.request.user, "service")

    def missing(self) -> NotFound:
        return NotFound(f"There is no build {self.kwargs['build']}.")


@extend_schema(parameters=OF_BUILD)
class BuildReportViewSet(OfBuild, mixins.ListModelMixin):
    """The reports of a build: those that the server read from CodeBuild, and those that callers sent."""

    queryset = Report.objects.all()
    serializer_class = ReportSerializer
    parser_classes = (ReportsParser,)
    required_scopes: ClassVar = {"create": [Scope.CI]}

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        return rows if getattr(self, "swagger_fake_view", False) else rows.filter(build=self.build_id())

    @extend_schema(
        request={"multipart/form-data": ReportRequestSerializer},
        responses={200: ReportSerializer, 201: ReportSerializer},
    )
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Send a report that was made elsewhere: 201, or 200 if the build has it. It is the caller's word."""
        user = acting_user(request)
        build = self.build()
        # Before the files are received: nobody waits for a gigabyte to be told that they may not send it.
        require_role(user=user, service=build.service, roles=MOVERS)
        body = read_body(request, ReportRequestSerializer)
        received: list[ReceivedFile] = body["file"]
        report, created = add_report(
            build=build,
            name=body["name"],
            declared_format=body["format"],
            files=[
                SentFile(file.name or "", cast("IO[bytes]", file), file.size or 0, file.sha256)
                for file in received
            ],
            asserted_by=user,
        )
        row = Report.objects.values(*ReportSerializer.columns).get(pk=report.pk)
        data = ReportSerializer(row).data
        return Response(data, status=status.HTTP_201_CREATED if created else status.HTTP_200_OK)


@extend_schema(parameters=OF_BUILD)
class TestResultViewSet(OfBuild, mixins.ListModelMixin):
    """The test cases of a build that did not pass; what passed is in its reports' counters."""

    __test__ = False

    queryset = TestResult.objects.all()
    serializer_class = TestResultSerializer
    filterset_class = TestResultFilter

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        return (
            rows if getattr(self, "swagger_fake_view", False) else rows.filter(report__build=self.build_id())
        )


class ReportViewSet(RowsMixin, VisibleMixin, viewsets.ReadOnlyModelViewSet):
    """Test and coverage reports: counts, failures, the slowest tests, and where they came from."""

    queryset = Report.objects.all()
    service_path = "build__service"
    filterset_class = ReportFilter

    def get_serializer_class(self) -> type[Representation]:
        return ReportOfBuildSerializer if self.action == "list" else ReportDetailSerializer

    def nest(self, rows: Sequence[dict[str, Any]]) -> None:
        if self.action == "list":
            return
        below(rows, "files", ReportFile.objects.values("report", *ReportFileSerializer.columns), "report")
        for row in rows:
            row["failures"] = [each.to_json() for each in failures(row["id"], limit=FAILURES_SHOWN)]
            row["slowest"] = [
                name.to_json()
                | {"outcome": each.outcome.value, "duration_ns": each.duration_ns, "flaky": each.flaky}
                for name, each in slowest_cases(row["id"], limit=SLOWEST_SHOWN)
            ]


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


class TrendViewSet(RowsMixin, VisibleMixin, mixins.ListModelMixin, viewsets.GenericViewSet):
    """From build to build: tests, pass rate, duration and coverage. Only builds whose reports were read."""

    queryset = trends.read_builds()
    serializer_class = TrendSerializer
    service_path = "service"
    filterset_class = TrendFilter

    def nest(self, rows: Sequence[dict[str, Any]]) -> None:
        trends.add_totals(list(rows), report=self.request.query_params.get("report", ""))
