"""Builds at the REST API."""

from collections.abc import Sequence
from typing import Any, ClassVar

import django_filters
from django.db.models import Case, Exists, OuterRef, Q, QuerySet, Subquery, TextField, Value, When
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from apps.access.models import Scope
from apps.access.permissions import acting_user
from apps.api import (
    Polled,
    Representation,
    RowsMixin,
    StrictSerializer,
    Written,
    below,
    read_body,
    read_query,
    written,
)
from apps.as_json import as_object
from apps.builds.compare import compare_builds
from apps.builds.comparison_api import (
    ComparisonQuerySerializer,
    ComparisonSerializer,
    comparison_answer,
    comparison_query,
)
from apps.builds.coverage import compare_coverage, coverage_report
from apps.builds.coverage_api import CoverageQuerySerializer, CoverageSerializer, coverage_answer
from apps.builds.models import Build, Report
from apps.builds.report_api import ReportSerializer
from apps.builds.services import register_build
from apps.catalog.models import Service
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


def bundle() -> QuerySet[Any]:
    """Of a build with ``exported_digest``, the release of the bundle that it exported.

    The same bundle may have been built before or since, so this goes by its digest; a release that still
    stands on an older build has not been compared with this one's.
    """
    # By way of the model's relation, since apps.releases lies above this app.
    release = Build._meta.get_field("releases").related_model
    return release._default_manager.filter(
        service=OuterRef("service"), digest=OuterRef("exported_digest"), build__gte=OuterRef("pk")
    )


@written(
    # Once the server has read it.
    release=Case(
        When(
            collected_at__isnull=False,
            problem="",
            then=Subquery(bundle().values(told=as_object(BuiltReleaseSerializer))[:1]),
        )
    ),
    # Nothing of it will change any more.
    final=Q(collected_at__isnull=False) & (~Q(problem="") | Q(exported_digest="") | Exists(bundle())),
)
class BuildSerializer(Written):
    id = serializers.IntegerField()
    service = serializers.SlugField(source="service.slug")
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
    requested_by = serializers.CharField(source="requested_by.username", allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    collected_at = serializers.DateTimeField(allow_null=True)

    # Empty where it exported none.
    annotations: ClassVar = {
        "exported_digest": Coalesce(KT(f"exports__{BUNDLE_DIGEST}"), Value("", TextField()))
    }


class BuildDetailSerializer(BuildSerializer):
    reports = ReportSerializer(many=True)

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        reports = [ReportSerializer.of(each) for each in row["reports"]]
        return super().of(row) | {"reports": reports}


class BuildFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("service__slug", help_text="A service's slug.")
    codebuild_id = django_filters.CharFilter("codebuild_id")
    commit = django_filters.CharFilter("commit")
    status = django_filters.ChoiceFilter(choices=Build.Status.choices)


class BuildViewSet(RowsMixin, VisibleMixin, Polled, mixins.ListModelMixin, viewsets.GenericViewSet):
    """CodeBuild's runs, and the evidence that the server read of them."""

    queryset = Build.objects.all()
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
        return coverage_answer(request, comparison, query)

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
        return None if BuildSerializer.of(row)["final"] else 3
