"""Flaky, broken and quarantined test cases at the REST API."""

from typing import Any

import django_filters
from django.db.models import Case, Exists, FloatField, OuterRef, Subquery, TextChoices, Value, When
from django.db.models.functions import Cast, Now
from rest_framework import serializers, viewsets

from apps.api import Representation, RowsMixin, Written, written
from apps.as_json import as_object, as_text
from apps.builds.flaky import ENOUGH, WINDOW
from apps.builds.models import CaseState, CaseStateQuerySet, Quarantine
from apps.catalog.visibility import VisibleMixin


class Shown(TextChoices):
    """A state as people see it: quarantine comes before whatever the runs say."""

    FLAKY = "flaky"
    BROKEN = "broken"
    QUARANTINED = "quarantined"


class InForceSerializer(Representation):
    """The quarantine that a case is in now."""

    id = serializers.IntegerField()
    by = serializers.CharField(source="by.username")
    reason = serializers.CharField()
    created_at = serializers.DateTimeField()
    until = serializers.DateTimeField()


# Of a state, the quarantine that its case is in now.
IN_FORCE = Quarantine.objects.filter(case=OuterRef("case"), lifted_at=None, until__gt=Now())


@written(
    case=as_text("case_id"),
    state=Case(When(Exists(IN_FORCE), then=Value(Shown.QUARANTINED.value)), default="state"),
    score=Cast("score", FloatField()) / 1000,
    quarantine=Subquery(IN_FORCE.order_by("-id").values(told=as_object(InForceSerializer))[:1]),
)
class CaseStateSerializer(Written):
    id = serializers.IntegerField()
    service = serializers.SlugField(source="service.slug")
    report = serializers.CharField(source="group.name", help_text="The report group's name.")
    case = serializers.CharField(
        help_text="The case's id: a text, since it has 64 bits and many JSON readers keep 53."
    )
    suite = serializers.CharField(source="case.suite")
    class_name = serializers.CharField(source="case.class_name")
    name = serializers.CharField(source="case.name")
    ordinal = serializers.IntegerField(source="case.ordinal")
    state = serializers.ChoiceField(Shown.choices)
    behaviour = serializers.ChoiceField(
        CaseState.State.choices, source="state", help_text="What its runs say, quarantined or not."
    )
    score = serializers.FloatField(
        allow_null=True,
        help_text="Which part of the runs differ from the one before, from 0 to 1; null of fewer than "
        f"{ENOUGH} runs.",
    )
    runs = serializers.IntegerField(help_text=f"Among the {WINDOW} reports before, as all that follows.")
    failures = serializers.IntegerField()
    transitions = serializers.IntegerField(help_text="Runs that differ from the one before.")
    commits = serializers.IntegerField(help_text="On which it both passed and failed, reruns included.")
    since = serializers.DateTimeField(help_text="Since when its runs say so.")
    build = serializers.IntegerField(
        source="report.build_id", help_text="The build after which it was judged."
    )
    quarantine = InForceSerializer(allow_null=True)


class CaseStateFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("service__slug", help_text="A service's slug.")
    report = django_filters.CharFilter("group__name", help_text="A report group's name.")
    case = django_filters.NumberFilter("case", help_text="A case's id.")
    state = django_filters.ChoiceFilter(choices=Shown.choices, method="by_state")

    def by_state(self, rows: CaseStateQuerySet, name: str, value: str) -> CaseStateQuerySet:
        return rows.shown_as(value)


class CaseStateViewSet(RowsMixin, VisibleMixin, viewsets.ReadOnlyModelViewSet):
    """The test cases that are flaky, broken or quarantined; all others are healthy."""

    queryset = CaseState.objects.all()
    serializer_class = CaseStateSerializer
    service_path = "service"
    filterset_class = CaseStateFilter

    def get_queryset(self) -> Any:
        # At each request, since a quarantine ends at some time.
        return super().get_queryset().not_healthy()
