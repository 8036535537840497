"""Quarantined test cases at the REST API: quarantine one, and lift it."""

from typing import Any

import django_filters
from django.db.models import Q
from django.db.models.functions import Now
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access.models import Scope
from apps.access.permissions import acting_user
from apps.api import CommentSerializer, StrictSerializer, Written, read_body, written
from apps.as_json import as_text
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


@written(case=as_text("case_id"), in_force=Q(lifted_at=None, until__gt=Now()))
class QuarantineSerializer(Written):
    id = serializers.IntegerField()
    service = serializers.SlugField(source="case.service.slug")
    report = serializers.CharField(source="case.group", help_text="The report group's name.")
    case = serializers.CharField()
    class_name = serializers.CharField(source="case.class_name")
    name = serializers.CharField(source="case.name")
    reason = serializers.CharField()
    by = serializers.CharField(source="by.username")
    created_at = serializers.DateTimeField()
    until = serializers.DateTimeField()
    lifted_at = serializers.DateTimeField(allow_null=True, help_text="When it was ended before its time.")
    lifted_by = serializers.CharField(source="lifted_by.username", allow_null=True)
    in_force = serializers.BooleanField(help_text="Whether it has neither been lifted nor run out.")


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
