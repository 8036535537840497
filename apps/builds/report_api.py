"""Reports, and what did not pass in them, at the REST API."""

from collections.abc import Sequence
from typing import IO, Any, ClassVar, cast

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.utils.urls import replace_query_param

from apps.access.models import Scope
from apps.access.permissions import acting_user
from apps.api import Representation, RowsMixin, StrictSerializer, Written, below, read_body, written
from apps.builds.case_api import NamedCaseSerializer
from apps.builds.models import Build, Report, ReportFile, TestResult, is_complete
from apps.builds.parsers.case import Outcome
from apps.builds.received import ReceivedFile, ReportsParser
from apps.builds.report import FAILURES_SHOWN, SLOWEST_SHOWN, failures, slowest_cases
from apps.builds.uploads import SentFile, add_report
from apps.catalog.permissions import MOVERS, require_role
from apps.catalog.visibility import VisibleMixin, visible
from apps.errors import NotFound


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
    errors = serializers.IntegerField()  # type: ignore[assignment]  # DRF has such a property
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


@written()
class TestResultSerializer(Written):
    """A test case that did not pass."""

    __test__ = False  # pytest would take it for a test

    report = serializers.CharField(source="report.name")
    suite = serializers.CharField(source="case.suite")
    class_name = serializers.CharField(source="case.class_name")
    name = serializers.CharField(source="case.name")
    ordinal = serializers.IntegerField(source="case.ordinal")
    status = serializers.ChoiceField(TestResult.Status.choices)
    duration_ns = serializers.IntegerField()
    message = serializers.CharField()


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


class ReportFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("build__service__slug", help_text="A service's slug.")
    build = django_filters.NumberFilter("build", help_text="A build's id.")
    name = django_filters.CharFilter("name")
    type = django_filters.CharFilter("type")


class TestResultFilter(django_filters.FilterSet):
    __test__ = False

    report = django_filters.CharFilter("report__name", help_text="A report's name.")
    status = django_filters.ChoiceFilter(choices=TestResult.Status.choices)


OF_BUILD = [OpenApiParameter("build", int, OpenApiParameter.PATH, description="A build's id.")]


class OfBuild(RowsMixin, viewsets.GenericViewSet):
    """What hangs below one build, which the user has to see."""

    # The lookup of the build.
    path: str

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):
            return rows
        rows = rows.filter(**{self.path: self.kwargs["build"]})
        return visible(rows, self.request.user, f"{self.path}__service")

    def paginate_queryset(self, queryset: Any) -> Any:
        page = super().paginate_queryset(queryset)
        # Whether there is such a build is asked only where nothing says so.
        if not page and not self.named().exists():
            raise self.missing()
        return page

    def build(self) -> Build:
        """The build of the address; NotFound if there is none that the user sees."""
        build = self.named().select_related("service").first()
        if build is None:
            raise self.missing()
        return build

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
    path = "build"
    required_scopes: ClassVar = {"create": [Scope.CI]}

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
    path = "report__build"


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
