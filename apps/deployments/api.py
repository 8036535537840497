"""Deployments at the REST API, with every host and every lifecycle event on it: reading only."""

from collections.abc import Sequence
from typing import Any

import django_filters
from django.db.models import OuterRef
from rest_framework import mixins, serializers, viewsets

from apps.api import Polled, Representation, RowsMixin, Written, below, written
from apps.as_json import Listed, as_object
from apps.catalog.visibility import VisibleMixin
from apps.deployments.causes import KNOWN, cause_of
from apps.deployments.foreign import origin_in_words
from apps.deployments.models import Deployment, FlightRecord, HookEvent, Target
from apps.deployments.records import MIGRATION_RESULTS, RESULTS
from apps.releases.api import ReleaseBriefSerializer, brief_release
from apps.releases.models import Release


class HookEventSerializer(Representation):
    # PostgreSQL builds it: hosts.

    name = serializers.CharField()
    status = serializers.CharField(help_text="CodeDeploy's own.")
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    error_code = serializers.CharField()
    script = serializers.CharField()
    message = serializers.CharField()


class StepSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="Stable: environment, release, prepare, start, prove …")
    text = serializers.CharField(help_text="As the hook printed it.")
    started_s = serializers.FloatField(help_text="Seconds since the event began.")
    seconds = serializers.FloatField(
        allow_null=True, help_text="null while it runs, or where it was cut off."
    )
    result = serializers.ChoiceField(sorted(RESULTS))


class MigrationsSerializer(serializers.Serializer[Any]):
    plan = serializers.ListField(child=serializers.CharField(), help_text="What was missing, as app.name.")
    applied = serializers.ListField(child=serializers.CharField(), help_text="What this host applied.")
    seconds = serializers.FloatField()
    host = serializers.CharField(help_text="The host that applied them, this one or another.")
    result = serializers.ChoiceField(sorted(MIGRATION_RESULTS))
    error = serializers.CharField()


class FlightRecordSerializer(Representation):
    """What the host itself says of an event. Hosts are not trusted; nothing is decided by it."""

    result = serializers.ChoiceField(FlightRecord.Result.choices)
    problem = serializers.CharField(help_text="Why it is unreadable; then all below is null or empty.")
    digest = serializers.CharField(allow_null=True)
    version = serializers.CharField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    seconds = serializers.FloatField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)
    error = serializers.CharField()
    cause = serializers.CharField(allow_null=True, help_text="A known cause's code, as the host names it.")
    steps = StepSerializer(many=True)
    tail = serializers.ListField(child=serializers.CharField(), help_text="The last lines that it printed.")
    migrations = MigrationsSerializer(allow_null=True)
    key = serializers.CharField(help_text="The object in the service's bucket.")
    read_at = serializers.DateTimeField()

    columns = (
        "record__result",
        "record__problem",
        "record__document",
        "record__key",
        "record__read_at",
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        document = row["record__document"]
        return {
            "result": row["record__result"],
            "problem": row["record__problem"],
            **{
                name: document.get(name)
                for name in ("digest", "version", "started_at", "seconds", "exit_code", "cause", "migrations")
            },
            "error": document.get("error", ""),
            "steps": document.get("steps", []),
            "tail": document.get("tail", []),
            "key": row["record__key"],
            "read_at": row["record__read_at"],
        }


class CauseSerializer(serializers.Serializer[Any]):
    code = serializers.ChoiceField([cause.code for cause in KNOWN])
    sentence = serializers.CharField()
    way_out = serializers.CharField()


class HookEventDetailSerializer(HookEventSerializer):
    log_tail = serializers.CharField(help_text="The last lines that the hook wrote.")
    cause = CauseSerializer(allow_null=True, help_text="Of a failed event, where it is a known one.")
    record = FlightRecordSerializer(allow_null=True, help_text="null until the host has uploaded it.")

    shown = ("name", *HookEvent.TOLD)
    columns = (*shown, *FlightRecordSerializer.columns)

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        recorded = row["record__result"] is not None
        document = row["record__document"] or {}
        cause = row["status"] == "Failed" and cause_of(
            event=row["name"],
            error_code=row["error_code"],
            message=row["message"],
            log_tail=row["log_tail"] or document.get("error", ""),
            recorded=document.get("cause") or "",
        )
        return {
            **{name: row[name] for name in cls.shown},
            "cause": {"code": cause.code, "sentence": cause.sentence, "way_out": cause.way_out}
            if cause
            else None,
            "record": FlightRecordSerializer.of(row) if recorded else None,
        }


class TargetSerializer(Representation):
    # PostgreSQL builds it: hosts.

    target_id = serializers.CharField()
    status = serializers.CharField(help_text="CodeDeploy's own.")
    updated_at = serializers.DateTimeField(allow_null=True)
    events = HookEventSerializer(many=True)


class TargetDetailSerializer(TargetSerializer):
    events = HookEventDetailSerializer(many=True)

    columns = ("id", "target_id", "status", "updated_at")

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "target_id": row["target_id"],
            "status": row["status"],
            "updated_at": row["updated_at"],
            "events": [HookEventDetailSerializer.of(each) for each in row["events"]],
        }


class DeploymentBriefSerializer(Representation):
    """A deployment where something else is the subject."""

    # PostgreSQL builds it, for apps.promotions.

    id = serializers.IntegerField()
    codedeploy_id = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(Deployment.Status.choices)
    error_code = serializers.CharField()
    error_message = serializers.CharField()


def hosts() -> Listed:
    """Of a deployment, its targets with their events, in short."""
    events = HookEvent.objects.filter(target=OuterRef("pk")).order_by("position")
    targets = Target.objects.filter(deployment=OuterRef("pk")).order_by("target_id")
    written = Listed(events.values(told=as_object(HookEventSerializer)))
    return Listed(targets.values(told=as_object(TargetSerializer, events=written)))


@written(release=brief_release(), targets=hosts())
class DeploymentSerializer(Written):
    id = serializers.IntegerField()
    service = serializers.SlugField(source="environment.service.slug")
    environment = serializers.SlugField(source="environment.slug")
    release = ReleaseBriefSerializer(
        allow_null=True, help_text="null for a foreign deployment of something that is not a release."
    )
    promotion = serializers.IntegerField(allow_null=True, help_text="null for a foreign deployment.")
    origin = serializers.ChoiceField(
        Deployment.Origin.choices, help_text="Who asked for it; all but lockkeeper are foreign."
    )
    creator = serializers.CharField(help_text="Of a foreign one, in CodeDeploy's words.")
    description = serializers.CharField(help_text="Of a foreign one: what its creator wrote.")
    revision = serializers.CharField(help_text="Of a foreign one: where what was deployed lies.")
    rolls_back = serializers.CharField(
        help_text="Of CodeDeploy's own rollback: the codedeploy_id of what it undoes."
    )
    intent = serializers.UUIDField()
    status = serializers.ChoiceField(Deployment.Status.choices)
    codedeploy_id = serializers.CharField(allow_null=True)
    error_code = serializers.CharField()
    error_message = serializers.CharField()
    created_at = serializers.DateTimeField()
    asked_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    targets = TargetSerializer(many=True)


class DeploymentDetailSerializer(DeploymentSerializer):
    explanation = serializers.CharField(
        help_text="Of a foreign deployment: where it came from, and what it means; empty for ours."
    )
    targets = TargetDetailSerializer(many=True)

    columns = (*DeploymentSerializer.columns, "status")

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        told = super().of(row)
        release = Release(version=told["release"]["version"]) if told["release"] else None
        origin = {name: told[name] for name in ("origin", "creator", "description", "revision", "rolls_back")}
        said = origin_in_words(Deployment(release=release, **origin))
        targets = [TargetDetailSerializer.of(each) for each in row["hosts"]]
        return told | {"explanation": said, "targets": targets}


class DeploymentFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("environment__service__slug", help_text="A service's slug.")
    environment = django_filters.CharFilter("environment__slug", help_text="An environment's slug.")
    release = django_filters.NumberFilter("release", help_text="A release's id.")
    promotion = django_filters.NumberFilter("promotion", help_text="A promotion's id.")
    status = django_filters.ChoiceFilter(choices=Deployment.Status.choices)
    origin = django_filters.ChoiceFilter(choices=Deployment.Origin.choices)


class DeploymentViewSet(RowsMixin, VisibleMixin, Polled, mixins.ListModelMixin, viewsets.GenericViewSet):
    """What CodeDeploy was told, and what came of it on each host."""

    queryset = Deployment.objects.all()
    service_path = "environment__service"
    filterset_class = DeploymentFilter

    def get_serializer_class(self) -> type[DeploymentSerializer]:
        return DeploymentSerializer if self.action == "list" else DeploymentDetailSerializer

    def nest(self, rows: Sequence[dict[str, Any]]) -> None:
        if self.action == "list":
            return
        targets = Target.objects.values("deployment", *TargetDetailSerializer.columns)
        events = HookEvent.objects.values("target", *HookEventDetailSerializer.columns)
        below(below(rows, "hosts", targets, "deployment"), "events", events, "target")

    def retry_after(self, row: dict[str, Any]) -> int | None:
        return 2 if row["status"] in Deployment.ACTIVE else None
