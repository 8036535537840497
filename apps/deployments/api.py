"""Deployments at the REST API, with every host and every lifecycle event on it: reading only."""

from collections.abc import Sequence
from typing import Any, ClassVar

import django_filters
from django.db.models import OuterRef, QuerySet
from rest_framework import mixins, serializers, viewsets

from apps.api import Polled, Representation, RowsMixin, below
from apps.as_json import Listed, as_object, as_written
from apps.catalog.visibility import VisibleMixin
from apps.deployments.causes import KNOWN, cause_of
from apps.deployments.foreign import origin_in_words
from apps.deployments.models import Deployment, FlightRecord, HookEvent, Target
from apps.deployments.records import MIGRATION_RESULTS, RESULTS
from apps.releases.api import ReleaseBriefSerializer, brief_release
from apps.releases.models import Release


class HookEventSerializer(Representation):
    # PostgreSQL builds it: with_hosts.

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
    # PostgreSQL builds it: with_hosts.

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


class DeploymentSerializer(Representation):
    id = serializers.IntegerField()
    service = serializers.SlugField()
    environment = serializers.SlugField()
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

    own = (
        "id",
        "environment__service__slug",
        "environment__slug",
        "release_json",
        # The other end of a one-to-one in apps.promotions; null without one.
        "promotion",
        "origin",
        "creator",
        "description",
        "revision",
        "rolls_back",
        "intent",
        "status",
        "codedeploy_id",
        "error_code",
        "error_message",
        "created_at",
        "asked_at",
        "started_at",
        "finished_at",
    )
    columns: ClassVar[tuple[str, ...]] = (*own, "hosts")

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": row["id"],
            "service": row["environment__service__slug"],
            "environment": row["environment__slug"],
            "release": row["release_json"],
            "promotion": row["promotion"],
            "origin": row["origin"],
            "creator": row["creator"],
            "description": row["description"],
            "revision": row["revision"],
            "rolls_back": row["rolls_back"],
            "intent": row["intent"],
            "status": row["status"],
            "codedeploy_id": row["codedeploy_id"],
            "error_code": row["error_code"],
            "error_message": row["error_message"],
            "created_at": row["created_at"],
            "asked_at": row["asked_at"],
            "started_at": row["started_at"],
            "finished_at": row["finished_at"],
            "targets": row["hosts"],
        }


class DeploymentDetailSerializer(DeploymentSerializer):
    explanation = serializers.CharField(
        help_text="Of a foreign deployment: where it came from, and what it means; empty for ours."
    )
    targets = TargetDetailSerializer(many=True)

    # Its hosts come row by row.
    columns = (*DeploymentSerializer.own, "release__version")

    @classmethod
    def of(cls, row: dict[str, Any]) -> dict[str, Any]:
        version = row["release__version"]
        release = Release(version=version) if version is not None else None
        told = {name: row[name] for name in ("origin", "creator", "description", "revision", "rolls_back")}
        said = origin_in_words(Deployment(release=release, **told))
        targets = [TargetDetailSerializer.of(each) for each in row["hosts"]]
        return super().of(row) | {"explanation": said, "targets": targets}


class DeploymentFilter(django_filters.FilterSet):
    service = django_filters.CharFilter("environment__service__slug", help_text="A service's slug.")
    environment = django_filters.CharFilter("environment__slug", help_text="An environment's slug.")
    release = django_filters.NumberFilter("release", help_text="A release's id.")
    promotion = django_filters.NumberFilter("promotion", help_text="A promotion's id.")
    status = django_filters.ChoiceFilter(choices=Deployment.Status.choices)
    origin = django_filters.ChoiceFilter(choices=Deployment.Origin.choices)


def with_hosts(deployments: QuerySet[Deployment]) -> QuerySet[Deployment]:
    """Each deployment with ``release_json``, and ``hosts``: its targets with their events, in short."""
    events = HookEvent.objects.filter(target=OuterRef("pk")).order_by("position")
    targets = Target.objects.filter(deployment=OuterRef("pk")).order_by("target_id")
    written = Listed(events.values(told=as_object(HookEventSerializer)))
    told = as_object(TargetSerializer, events=written)
    hosts = as_written(Listed(targets.values(told=told)))
    return deployments.annotate(release_json=brief_release(), hosts=hosts)


class DeploymentViewSet(RowsMixin, VisibleMixin, Polled, mixins.ListModelMixin, viewsets.GenericViewSet):
    """What CodeDeploy was told, and what came of it on each host."""

    queryset = Deployment.objects.all()
    annotated = with_hosts(queryset)
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
