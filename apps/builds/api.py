"""Builds, their reports and what did not pass in them, at the REST API."""

from collections.abc import Sequence
from typing import IO, Any, ClassVar, cast

import django_filters
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KT
from django.db.models.functions import JSONObject
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
from apps.api import Polled, Representation, RowsMixin, StrictSerializer, below, read_query
from apps.builds.coverage import compare_coverage, coverage_report
from apps.builds.models import Build, Report, TestResult
from apps.builds.received import ReceivedFile, ReportsParser
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
    brief = JSONObject(id="id", version="version", digest="digest")
    return builds.annotate(
        exported_digest=KT(f"exports__{BUNDLE_DIGEST}"), made=Subquery(bundle.values(brief=brief)[:1])
    )


def made(row: dict[str, Any]) -> dict[str, Any] | None:
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

    columns = (
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

    def to_representation(self, row: dict[str, Any]) -> dict[str, Any]:
        asked = ("type", "parsed", "lines_total", "problem")
        complete = Report(**{name: row[name] for name in asked}).complete
        own = {name: row[name] for name in self.columns if name != "asserted_by__username"}
        return own | {"asserted_by": row["asserted_by__username"], "complete": complete}


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
        "exported_digest",
        "made",
        "requested_by__username",
        "started_at",
        "finished_at",
        "created_at",
        "collected_at",
    )

    def to_representation(self, row: dict[str, Any]) -> dict[str, Any]:
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

    def to_representation(self, row: dict[str, Any]) -> dict[str, Any]:
        report = ReportSerializer()
        reports = [report.to_representation(each) for each in row["reports"]]
        return super().to_representation(row) | {"reports": reports}


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

    def to_representation(self, row: dict[str, Any]) -> dict[str, Any]:
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


class BuildFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("service__slug", help_text="A service's slug.")
    codebuild_id = django_filters.CharFilter("codebuild_id")
    commit = django_filters.CharFilter("commit")
    status = django_filters.ChoiceFilter(choices=Build.Status.choices)


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
        body = BuildRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        user = acting_user(request)
        slug = body.validated_data["service"]
        service = Service.objects.visible_to(user).filter(slug=slug).first()
        if service is None:
            raise NotFound(f"There is no service {slug!r} of which {user.username} is a member.")
        build, created = register_build(
            service=service,
            codebuild_id=body.validated_data["codebuild_id"],
            commit=body.validated_data["commit"],
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

    def get_serializer_class(self) -> type[Representation]:
        return BuildSerializer if self.action == "list" else BuildDetailSerializer

    def retry_after(self, row: dict[str, Any]) -> int | None:
        return None if is_final(row) else 3


OF_BUILD = [OpenApiParameter("build", int, OpenApiParameter.PATH, description="A build's id.")]


class OfBuild(RowsMixin, viewsets.GenericViewSet):
    """What hangs below one build, which the user has to see."""

    def build(self) -> Build:
        """The build of the address; NotFound if there is none that the user sees."""
        user, key = self.request.user, self.kwargs.get("build", 0)
        build = visible(Build.objects.select_related("service"), user, "service").filter(pk=key).first()
        if build is None:
            raise NotFound(f"There is no build {key}.")
        return build


@extend_schema(parameters=OF_BUILD)
class BuildReportViewSet(OfBuild, mixins.ListModelMixin):
    """The reports of a build: those that the server read from CodeBuild, and those that callers sent."""

    queryset = Report.objects.all()
    serializer_class = ReportSerializer
    parser_classes = (ReportsParser,)
    required_scopes: ClassVar = {"create": [Scope.CI]}

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        return rows if getattr(self, "swagger_fake_view", False) else rows.filter(build=self.build())

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
        body = ReportRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        received: list[ReceivedFile] = body.validated_data["file"]
        report, created = add_report(
            build=build,
            name=body.validated_data["name"],
            declared_format=body.validated_data["format"],
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
        return rows if getattr(self, "swagger_fake_view", False) else rows.filter(report__build=self.build())
