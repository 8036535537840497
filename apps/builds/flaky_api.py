"""Flaky, broken and quarantined test cases at the REST API."""

from collections.abc import Sequence
from typing import Any

import django_filters
from django.db.models import QuerySet, TextChoices
from django.utils import timezone
from rest_framework import serializers, viewsets

from apps.api import Representation, RowsMixin
from apps.builds.flaky import ENOUGH, WINDOW
from apps.builds.models import CaseState, CaseStateQuerySet, Quarantine
from apps.catalog.visibility import VisibleMixin
from apps.compiled import Among, compiled


class Shown(TextChoices):
    """A state as people see it: quarantine comes before whatever the runs say."""

    FLAKY = "flaky"
    BROKEN = "broken"
    QUARANTINED = "quarantined"


class InForceSerializer(Representation):
    """The quarantine that a case is in now."""

    id = serializers.IntegerField()
    by = serializers.CharField()
    reason = serializers.CharField()
    created_at = serializers.DateTimeField()
    until = serializers.DateTimeField()

    columns = ("id", "by__username", "reason", "created_at", "until", "case")

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": row["id"],
            "by": row["by__username"],
            "reason": row["reason"],
            "created_at": row["created_at"],
            "until": row["until"],
        }


class CaseStateSerializer(Representation):
    id = serializers.IntegerField()
    service = serializers.SlugField()
    report = serializers.CharField(help_text="The report group's name.")
    case = serializers.CharField(
        help_text="The case's id: a text, since it has 64 bits and many JSON readers keep 53."
    )
    suite = serializers.CharField()
    class_name = serializers.CharField()
    name = serializers.CharField()
    ordinal = serializers.IntegerField()
    state = serializers.ChoiceField(Shown.choices)
    behaviour = serializers.ChoiceField(
        CaseState.State.choices, help_text="What its runs say, quarantined or not."
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
    build = serializers.IntegerField(help_text="The build after which it was judged.")
    quarantine = InForceSerializer(allow_null=True)

    columns = (
        "id",
        "service__slug",
        "group__name",
        "case",
        "case__suite",
        "case__class_name",
        "case__name",
        "case__ordinal",
        "state",
        "score",
        "runs",
        "failures",
        "transitions",
        "commits",
        "since",
        "report__build",
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        quarantine = row["quarantine"]
        return {
            "id": row["id"],
            "service": row["service__slug"],
            "report": row["group__name"],
            "case": str(row["case"]),
            "suite": row["case__suite"],
            "class_name": row["case__class_name"],
            "name": row["case__name"],
            "ordinal": row["case__ordinal"],
            "state": str(Shown.QUARANTINED) if quarantine else row["state"],
            "behaviour": row["state"],
            "score": None if row["score"] is None else row["score"] / 1000,
            "runs": row["runs"],
            "failures": row["failures"],
            "transitions": row["transitions"],
            "commits": row["commits"],
            "since": row["since"],
            "build": row["report__build"],
            "quarantine": InForceSerializer.of(quarantine) if quarantine else None,
        }


def add_quarantines(rows: Sequence[dict[str, Any]]) -> None:
    """Give each row of CaseStateSerializer's columns the quarantine that its case is in, by one query."""
    now = timezone.now()
    found = open_quarantines(cases=[row["case"] for row in rows])
    by_case = {each["case"]: each for each in found if each["until"] > now}
    for row in rows:
        row["quarantine"] = by_case.get(row["case"])


@compiled
def open_quarantines() -> QuerySet[Quarantine, dict[str, Any]]:
    """Those of cases that nobody has lifted, whether or not they have run out by now."""
    rows = Quarantine.objects.filter(Among("case", "cases"), lifted_at=None)
    return rows.values(*InForceSerializer.columns)


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

    def nest(self, rows: Sequence[dict[str, Any]]) -> None:
        add_quarantines(rows)
