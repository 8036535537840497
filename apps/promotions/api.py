"""Promotions at the REST API: ask for one, approve, reject or cancel it, and wait for its end."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import django_filters
from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from apps.access.models import Scope
from apps.access.permissions import acting_user, require_scope
from apps.api import (
    CommentSerializer,
    Polled,
    Representation,
    StrictSerializer,
    Written,
    below,
    read_body,
    rows_of,
    written,
)
from apps.as_json import Listed, as_object
from apps.builds.comparison_api import (
    ComparisonQuerySerializer,
    ComparisonSerializer,
    comparison_answer,
    comparison_query,
)
from apps.builds.models import Build
from apps.catalog.acting import ActedOnViewSet
from apps.catalog.models import Environment
from apps.catalog.visibility import VisibleMixin, visible
from apps.deployments.api import DeploymentBriefSerializer
from apps.deployments.models import Deployment
from apps.errors import NotFound
from apps.gates.api import BriefFindings, FindingBriefSerializer, FindingSerializer, WrittenFindings
from apps.gates.verdicts import Verdict
from apps.promotions import describe, services
from apps.promotions.compare import compare_with_running
from apps.promotions.explanation import explain_promotion
from apps.promotions.models import Approval, Override, Promotion
from apps.promotions.override_api import OverrideBriefSerializer
from apps.promotions.rollbacks import request_rollback
from apps.releases.api import ReleaseBriefSerializer, brief_release
from apps.releases.models import Release


class PromotionRequestSerializer(StrictSerializer):
    """The wish to bring a release to an environment of its service."""

    release = serializers.IntegerField(min_value=1, help_text="A release's id.")
    environment = serializers.CharField(max_length=60, help_text="The slug of an environment.")


class RollbackRequestSerializer(CommentSerializer):
    """The wish to bring an older release back."""

    release = serializers.IntegerField(
        min_value=1,
        required=False,
        allow_null=True,
        default=None,
        help_text="The id of a release that has run there; the one before what runs, if it is left out.",
    )
    not_applied = serializers.ListField(
        child=serializers.CharField(max_length=300),
        required=False,
        default=list,
        max_length=100,
        help_text="Contract migrations, as app.name, of which you have found that they are not applied.",
    )


class ApprovalSerializer(Representation):
    # PostgreSQL builds it: approvals.

    user = serializers.CharField(source="user.username")
    verdict = serializers.ChoiceField(Approval.Verdict.choices)
    comment = serializers.CharField()
    created_at = serializers.DateTimeField()
    withdrawn_at = serializers.DateTimeField(allow_null=True, help_text="Since then it counts no longer.")


class LinksSerializer(Representation):
    """Where to go on from here."""

    self = serializers.URLField()
    approve = serializers.URLField()
    reject = serializers.URLField()
    cancel = serializers.URLField()
    release = serializers.URLField()
    decision = serializers.URLField(allow_null=True)
    deployment = serializers.URLField(allow_null=True)
    explanation = serializers.URLField(help_text="What is unmet, who can act, and when it could pass.")
    page = serializers.URLField(help_text="Its page in the admin site.")

    def to_representation(self, row: dict[str, Any]) -> dict[str, Any]:
        request = self.context["request"]

        def link(name: str, key: Any) -> str | None:
            return reverse(name, args=[key], request=request) if key else None

        return {
            "self": link("promotion-detail", row["id"]),
            "approve": link("promotion-approve", row["id"]),
            "reject": link("promotion-reject", row["id"]),
            "cancel": link("promotion-cancel", row["id"]),
            "release": link("release-detail", row["release_id"]),
            "decision": link("decision-detail", row["decision_id"]),
            "deployment": link("deployment-detail", row["deployment_id"]),
            "explanation": link("promotion-explanation", row["id"]),
            "page": link("admin:promotions_promotion_change", row["id"]),
        }


def approvals() -> Listed:
    """Of a promotion, what approvers said of it, oldest first."""
    given = Approval.objects.filter(promotion=OuterRef("pk")).order_by("created_at")
    return Listed(given.values(told=as_object(ApprovalSerializer)))


def brief_deployment() -> Subquery:
    """Of a promotion, its deployment; null before there is one."""
    deployment = Deployment.objects.filter(pk=OuterRef("deployment"))
    return Subquery(deployment.values(told=as_object(DeploymentBriefSerializer)))


@written(
    release=brief_release(),
    final=Q(status__in=Promotion.FINAL),
    findings=BriefFindings("decision__findings"),
    deployment=brief_deployment(),
    approvals=approvals(),
)
class PromotionSerializer(Written):
    id = serializers.IntegerField()
    service = serializers.SlugField(source="environment.service.slug")
    environment = serializers.SlugField(source="environment.slug")
    release = ReleaseBriefSerializer()
    status = serializers.ChoiceField(Promotion.Status.choices)
    final = serializers.BooleanField(help_text="Whether its status is its last.")
    reason = serializers.CharField(help_text="Why it ended as it did.")
    verdict = serializers.ChoiceField(
        Verdict.choices,
        source="decision.verdict",
        allow_null=True,
        help_text="Of the newest decision; null before the first.",
    )
    findings = FindingBriefSerializer(many=True)
    decision = serializers.IntegerField(source="decision_id", allow_null=True)
    deployment = DeploymentBriefSerializer(allow_null=True)
    approvals = ApprovalSerializer(many=True)
    rollback = serializers.BooleanField(
        help_text="Whether it brings an older release back, by the policy's rules for that."
    )
    requested_by = serializers.CharField(source="requested_by.username")
    comment = serializers.CharField(help_text="Why it was asked for.")
    not_applied = serializers.ListField(
        child=serializers.CharField(),
        help_text="Contract migrations of which the requester says that they have not been applied.",
    )
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class PromotionDetailSerializer(PromotionSerializer):
    findings = FindingSerializer(many=True)
    waits_for = serializers.CharField(
        help_text="What holds it up now; empty when it has ended, or while findings say it."
    )
    overrides = OverrideBriefSerializer(
        many=True, help_text="What operators let it pass against, newest first, whether or not it counts."
    )
    links = LinksSerializer()

    annotations: ClassVar = {
        **PromotionSerializer.annotations,
        "whole": WrittenFindings("decision__findings"),
    }
    # And for the links.
    columns = (*PromotionSerializer.columns, "whole", "status", "release_id", "decision_id", "deployment_id")

    def to_representation(self, row: dict[str, Any]) -> dict[str, Any]:
        return self.of(row) | {
            "findings": row["whole"],
            "waits_for": row["waits_for"],
            "overrides": [each["told"] for each in row["overrides"]],
            "links": LinksSerializer(context=self.context).to_representation(row),
        }


class RunningSerializer(Representation):
    """What is in an environment."""

    release = ReleaseBriefSerializer()
    since = serializers.DateTimeField()


class ExplanationLinksSerializer(Representation):
    promotion = serializers.URLField()
    page = serializers.URLField(help_text="Its page in the admin site.")


class ExplanationSerializer(Representation):
    """Why a release is not there: the whole answer. Explanation.to_json builds it, with links added."""

    promotion = serializers.IntegerField(allow_null=True)
    service = serializers.SlugField()
    environment = serializers.SlugField()
    release = ReleaseBriefSerializer()
    status = serializers.ChoiceField(Promotion.Status.choices, allow_null=True)
    running = RunningSerializer(allow_null=True, help_text="What is in the environment now.")
    answer = serializers.CharField(help_text="The whole in a sentence or two.")
    verdict = serializers.ChoiceField(Verdict.choices, allow_null=True)
    policy_version = serializers.IntegerField(allow_null=True)
    evaluated_at = serializers.DateTimeField(
        allow_null=True, help_text="Now, while it waits at its gate; else when it was judged last."
    )
    unmet = FindingSerializer(many=True, help_text="What keeps it, the worst first.")
    met = FindingSerializer(many=True)
    earliest = serializers.DateTimeField(
        allow_null=True, help_text="When it passes by itself; null while somebody or something has to come."
    )
    not_before = serializers.DateTimeField(
        allow_null=True,
        help_text="Before this nobody can make it pass, over soak, windows and all else that time "
        "decides; null where waiting does not help.",
    )
    by_then = FindingSerializer(many=True, help_text="What will stand against it before it could pass.")
    links = ExplanationLinksSerializer()

    def to_representation(self, row: dict[str, Any]) -> dict[str, Any]:
        request, key = self.context["request"], row["promotion"]
        names = {"promotion": "promotion-detail", "page": "admin:promotions_promotion_change"}
        return row | {
            "links": {each: reverse(name, args=[key], request=request) for each, name in names.items()}
        }


PROMOTIONS = Promotion.objects.all()


def nest_below(rows: Sequence[dict[str, Any]]) -> None:
    """Give rows of promotions what only the answer about one has."""
    overrides = OverrideBriefSerializer.rows(Override.objects.all(), "promotion")
    below(rows, "overrides", overrides, "promotion")
    for row in rows:
        row["waits_for"] = "" if row["status"] in Promotion.FINAL else waits_for(row["id"])


def waits_for(pk: int) -> str:
    """What holds up a promotion that has not ended."""
    related = Promotion.objects.select_related("environment", "decision", "deployment")
    # Large, and not what it is about.
    return describe.waits(related.defer("decision__facts", "decision__findings").get(pk=pk))


def answer_with(pk: int, context: Mapping[str, Any], code: int) -> Response:
    """The promotion as it is after a write, read anew with what its representation needs."""
    row = rows_of(PROMOTIONS, PromotionDetailSerializer).get(pk=pk)
    nest_below([row])
    headers = {"Location": reverse("promotion-detail", args=[pk], request=context["request"])}
    data = PromotionDetailSerializer(row, context=context).data
    return Response(data, status=code, headers=headers if code == status.HTTP_201_CREATED else None)


class PromotionFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("environment__service__slug", help_text="A service's slug.")
    environment = django_filters.CharFilter("environment__slug", help_text="An environment's slug.")
    release = django_filters.NumberFilter("release", help_text="A release's id.")
    status = django_filters.ChoiceFilter(choices=Promotion.Status.choices)
    rollback = django_filters.BooleanFilter("rollback", help_text="Whether it brings an older release back.")


class PromotionViewSet(Polled, ActedOnViewSet):  # type: ignore[misc]  # a 304 is none of DRF's responses
    """The wish to bring a release to an environment, from the gate to the end of its deployment.

    Poll one with If-None-Match: 304 while nothing changed, Retry-After until it is final.
    """

    queryset = PROMOTIONS
    related = ("environment__service", "release", "decision")
    service_path = "environment__service"
    filterset_class = PromotionFilter
    required_scopes = {
        "create": [Scope.CI],
        "approve": [Scope.APPROVE],
        "reject": [Scope.APPROVE],
        "withdraw": [Scope.APPROVE],
        # Cancelling what somebody else asked for needs OPERATE; see cancel().
        "cancel": [Scope.CI, Scope.OPERATE],
    }

    def get_serializer_class(self) -> type[Representation]:
        return PromotionSerializer if self.action == "list" else PromotionDetailSerializer

    def nest(self, rows: Sequence[dict[str, Any]]) -> None:
        if self.action != "list":
            nest_below(rows)

    def retry_after(self, row: dict[str, Any]) -> int | None:
        if row["status"] in Promotion.FINAL:
            return None
        # A gate may wait for a person, which takes longer than a host.
        return 5 if row["status"] == Promotion.Status.PENDING else 2

    @extend_schema(
        request=PromotionRequestSerializer,
        responses={200: PromotionDetailSerializer, 201: PromotionDetailSerializer},
    )
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Ask for a release to be brought to an environment; the gate answers at once."""
        wish = read_body(request, PromotionRequestSerializer)
        key, slug = wish["release"], wish["environment"]
        releases = visible(Release.objects.select_related("service"), request.user, "service")
        release = releases.filter(pk=key).first()
        if release is None:
            raise NotFound(f"There is no release {key}; GET /api/v1/releases/ lists them.")
        environment = Environment.objects.filter(service=release.service, slug=slug).first()
        if environment is None:
            known = release.service.environments.values_list("slug", flat=True)
            raise NotFound(
                f"{release.service.slug} has no environment {slug!r}; it has {', '.join(known) or 'none'}."
            )
        asked_at = timezone.now()
        promotion = services.request_promotion(
            release=release, environment=environment, requested_by=acting_user(request)
        )
        # Asked again by the same user, it is the same promotion.
        return self.answer(promotion.pk, made=promotion.created_at >= asked_at)

    @extend_schema(request=CommentSerializer, responses=PromotionDetailSerializer)
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Agree to it, as an approver who did not ask for it."""
        return self.respond(services.approve_promotion)

    @extend_schema(request=CommentSerializer, responses=PromotionDetailSerializer)
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Refuse it, as an approver. That is its end."""
        return self.respond(services.reject_promotion)

    @extend_schema(request=CommentSerializer, responses=PromotionDetailSerializer)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Take one's own approval back. What runs because of it stays, and is shown if it would not pass."""
        return self.respond(services.withdraw_approval)

    @extend_schema(request=CommentSerializer, responses=PromotionDetailSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Take it back while it waits at its gate; of others' promotions only with the scope operate."""
        promotion = self.named()
        own = promotion.requested_by_id == request.user.pk
        require_scope(request, *([Scope.CI, Scope.OPERATE] if own else [Scope.OPERATE]))
        comment = self.comment()
        services.cancel_promotion(promotion=promotion, user=acting_user(request), reason=comment)
        return self.answer(promotion.pk)

    @extend_schema(responses=ExplanationSerializer)
    @action(detail=True, methods=["get"])
    def explanation(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Say why it is where it is: what is unmet, who can act, and when it could pass."""
        promotion = services.get_promotion(self.named().pk)
        context = self.get_serializer_context()
        row = explain_promotion(promotion).to_json()
        return Response(ExplanationSerializer(context=context).to_representation(row))

    def respond(self, service: Any) -> Response:
        promotion = self.named()
        service(promotion=promotion, user=acting_user(self.request), comment=self.comment())
        return self.answer(promotion.pk)


@extend_schema(
    parameters=[
        ComparisonQuerySerializer,
        OpenApiParameter("environment", int, OpenApiParameter.PATH, description="An environment's id."),
    ],
    responses=ComparisonSerializer,
)
class RunningComparisonViewSet(viewsets.GenericViewSet[Any]):
    """What a build's tests change of those of what an environment runs."""

    queryset = Build.objects.all()
    serializer_class = ComparisonSerializer

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Compare a build's tests with those of the build that an environment runs: 409 if nothing does."""
        than, shown = comparison_query(request)
        environments = visible(Environment.objects.all(), request.user, "service")
        environment = get_object_or_404(environments, pk=kwargs["environment"])
        build = get_object_or_404(visible(Build.objects.all(), request.user, "service"), pk=kwargs["pk"])
        before, comparison = compare_with_running(build=build, environment=environment, than=than)
        return comparison_answer(request, comparison, before=before, after=build, shown=shown)


class EnvironmentRollbackViewSet(VisibleMixin, viewsets.GenericViewSet[Any]):
    """Bring an older release back to an environment."""

    queryset = Environment.objects.select_related("service")
    service_path = "service"
    required_scopes = {"rollback": [Scope.OPERATE]}
    serializer_class = PromotionDetailSerializer
    filter_backends = ()

    @extend_schema(
        request=RollbackRequestSerializer,
        responses={200: PromotionDetailSerializer, 201: PromotionDetailSerializer},
    )
    @action(detail=True, methods=["post"])
    def rollback(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Go back to the release that ran before, or to a named one, as an operator.

        It is a promotion that is judged by the policy's rules for rollbacks. Refused at once where the
        database has seen a migration that the older release could not run with.
        """
        environment = self.get_object()
        wish = read_body(request, RollbackRequestSerializer)
        key = wish["release"]
        release = None
        if key is not None:
            release = Release.objects.filter(service=environment.service_id, pk=key).first()
            if release is None:
                raise NotFound(
                    f"{environment.service.slug} has no release {key}; GET /api/v1/releases/ lists them."
                )
        asked_at = timezone.now()
        promotion = request_rollback(
            environment=environment,
            requested_by=acting_user(request),
            release=release,
            comment=wish["comment"],
            not_applied=set(wish["not_applied"]),
        )
        asked_before = promotion.created_at < asked_at
        code = status.HTTP_200_OK if asked_before else status.HTTP_201_CREATED
        return answer_with(promotion.pk, self.get_serializer_context(), code)
