"""Quarantined test cases at the REST API: quarantine one, and lift it."""

from typing import Any

import django_filters
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access.models import Scope
from apps.access.permissions import acting_user
from apps.api import CommentSerializer, Representation, StrictSerializer, read_body
from apps.builds.models import Quarantine, QuarantineQuerySet, TestCase
from apps.catalog.acting import ActedOnViewSet
from apps.catalog.visibility import visible
from apps.errors import NotFound
from apps.promotions.quarantine import REASON_LIMIT, lift_quarantine, quarantine_case


class QuarantineRequestSerializer(StrictSerializer):
    """A test case that is known to fail."""

    case = serializers.RegexField(
        r"^-?[0-9]{1,19}$", help_text="A case's id, as case-states/ has it: a text or a number."
    )
    reason = serializers.CharField(max_length=REASON_LIMIT, help_text="Why.")
    until = serializers.DateTimeField(help_text="Its end, at most 90 days from now.")


class QuarantineSerializer(Representation):
    id = serializers.IntegerField()
    service = serializers.SlugField()
    report = serializers.CharField(help_text="The report group's name.")
    case = serializers.CharField()
    class_name = serializers.CharField()
    name = serializers.CharField()
    reason = serializers.CharField()
    by = serializers.CharField()
    created_at = serializers.DateTimeField()
    until = serializers.DateTimeField()
    lifted_at = serializers.DateTimeField(allow_null=True, help_text="When it was ended before its time.")
    lifted_by = serializers.CharField(allow_null=True)
    in_force = serializers.BooleanField(help_text="Whether it has neither been lifted nor run out.")

    columns = (
        "id",
        "case__service__slug",
        "case__group",
        "case",
        "case__class_name",
        "case__name",
        "reason",
        "by__username",
        "created_at",
        "until",
        "lifted_at",
        "lifted_by__username",
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": row["id"],
            "service": row["case__service__slug"],
            "report": row["case__group"],
            "case": str(row["case"]),
            "class_name": row["case__class_name"],
            "name": row["case__name"],
            "reason": row["reason"],
            "by": row["by__username"],
            "created_at": row["created_at"],
            "until": row["until"],
            "lifted_at": row["lifted_at"],
            "lifted_by": row["lifted_by__username"],
            "in_force": row["lifted_at"] is None and row["until"] > timezone.now(),
        }


class QuarantineFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("case__service__slug", help_text="A service's slug.")
    case = django_filters.NumberFilter("case", help_text="A case's id.")
    in_force = django_filters.BooleanFilter(method="by_force")

    def by_force(self, rows: QuarantineQuerySet, name: str, value: bool) -> QuarantineQuerySet:
        return rows.in_force() if value else rows.ended()


class QuarantineViewSet(ActedOnViewSet):
    """Test cases of which somebody said that their failures are known, for how long and why."""

    queryset = Quarantine.objects.all()
    related = ("case__service",)
    serializer_class = QuarantineSerializer
    service_path = "case__service"
    filterset_class = QuarantineFilter
    required_scopes = {
        "create": [Scope.APPROVE, Scope.OPERATE],
        "lift": [Scope.APPROVE, Scope.OPERATE],
    }

    @extend_schema(request=QuarantineRequestSerializer, responses={201: QuarantineSerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Quarantine a test case, as an approver or operator. It excuses what a policy lets it excuse."""
        said = read_body(request, QuarantineRequestSerializer)
        key = int(said["case"])
        cases = visible(TestCase.objects.select_related("service"), request.user, "service")
        # A number of 19 digits may be too large for the column, which is no case either.
        case = cases.filter(pk=key).first() if abs(key) < 1 << 63 else None
        if case is None:
            raise NotFound(f"There is no test case {key}; GET /api/v1/case-states/ has those in trouble.")
        quarantine = quarantine_case(
            case=case, user=acting_user(request), reason=said["reason"], until=said["until"]
        )
        return self.answer(quarantine.pk, made=True)

    @extend_schema(request=CommentSerializer, responses=QuarantineSerializer)
    @action(detail=True, methods=["post"])
    def lift(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End a quarantine before its time."""
        quarantine = self.named()
        lift_quarantine(quarantine=quarantine, user=acting_user(request), comment=self.comment())
        return self.answer(quarantine.pk)
