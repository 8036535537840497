"""Deployments as CodeDeploy runs them, and what runs where because of them."""

import uuid
from datetime import UTC, datetime
from functools import cache

from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.models import F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce, JSONObject
from django.utils import timezone

from apps.catalog.models import Environment
from apps.leases import Leasable
from apps.releases.models import Release

# Later than whatever happens.
NEVER = datetime(9999, 1, 1, tzinfo=UTC)


class DeploymentQuerySet(models.QuerySet["Deployment"]):
    def active(self) -> "DeploymentQuerySet":
        """Deployments that have not come to their end."""
        return self.filter(status__in=Deployment.ACTIVE)

    def reached_hosts(self) -> "DeploymentQuerySet":
        """Deployments that changed what is on a host, or may have: CodeDeploy began and told of no host."""
        hosts = Target.objects.filter(deployment=OuterRef("pk")).order_by().values("pk")
        # As values, since for EXISTS in an OR PostgreSQL would read all the targets that there are.
        known = self.alias(
            a_host=Subquery(hosts[:1]),
            a_host_reached=Subquery(hosts.exclude(status__in=Target.LEFT_ALONE)[:1]),
        )
        return known.exclude(status__in=(Deployment.Status.INTENDED, Deployment.Status.REQUESTED)).filter(
            Q(a_host_reached__isnull=False) | Q(started_at__isnull=False, a_host=None)
        )

    def without_new_hosts(self) -> "DeploymentQuerySet":
        """Without those that brought what runs to new hosts with success; it tells nothing of others."""
        current = Occupancy.objects.current().filter(environment=OuterRef("environment"))
        failed = Target.objects.filter(deployment=OuterRef("pk")).exclude(status="Succeeded").order_by()
        known = self.alias(
            runs=Subquery(current.values("release")[:1]), a_host_failed=Subquery(failed.values("pk")[:1])
        )
        return known.exclude(
            origin=Deployment.Origin.AUTO_SCALING,
            status=Deployment.Status.SUCCEEDED,
            release=F("runs"),
            a_host_failed=None,
        )

    def newest_first(self) -> "DeploymentQuerySet":
        """By their end; those that have none come first."""
        return self.order_by(F("finished_at").desc(nulls_first=True), "-pk")


class Deployment(Leasable):
    """One CodeDeploy deployment, written down as an intent before CodeDeploy is told."""

    class Status(models.TextChoices):
        INTENDED = "intended"
        REQUESTED = "requested"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        STOPPED = "stopped"

    class Origin(models.TextChoices):
        LOCKKEEPER = "lockkeeper"
        OUTSIDE = "outside", "somebody outside Lockkeeper"
        AUTO_SCALING = "auto_scaling", "new hosts"
        CODEDEPLOY_ROLLBACK = "codedeploy_rollback", "CodeDeploy's own rollback"

    ACTIVE = (Status.INTENDED, Status.REQUESTED, Status.RUNNING)
    FINAL = (Status.SUCCEEDED, Status.FAILED, Status.STOPPED)

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="deployments")
    release = models.ForeignKey(
        Release,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="deployments",
        help_text="Empty for a foreign deployment of something that is not a release.",
    )
    origin = models.CharField(
        max_length=20, choices=Origin, default=Origin.LOCKKEEPER, db_default=Origin.LOCKKEEPER.value
    )
    # As CodeDeploy tells them of a foreign deployment.
    creator = models.CharField(max_length=60, blank=True, default="", db_default="")
    description = models.TextField(blank=True, default="", db_default="")
    revision = models.TextField(
        blank=True, default="", db_default="", help_text="Where what was deployed lies, release or not."
    )
    rolls_back = models.CharField(
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text="CodeDeploy's id of the deployment that its own rollback undoes.",
    )
    intent = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.INTENDED)
    codedeploy_id = models.CharField(max_length=100, null=True, blank=True, unique=True)
    asked_at = models.DateTimeField(
        null=True, blank=True, help_text="When CreateDeployment was last sent, whether or not an answer came."
    )
    error_code = models.CharField(max_length=100, blank=True)
    error_message = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = DeploymentQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                # Auto scaling may be at work on several new hosts at once.
                fields=["environment"],
                condition=Q(status__in=["intended", "requested", "running"], origin="lockkeeper"),
                name="deployment_one_active_of_ours_per_environment",
            ),
            models.CheckConstraint(
                condition=Q(origin__in=["lockkeeper", "outside", "auto_scaling", "codedeploy_rollback"]),
                name="deployment_origin_known",
            ),
            models.CheckConstraint(
                condition=Q(
                    status__in=["intended", "requested", "running", "succeeded", "failed", "stopped"]
                ),
                name="deployment_status_known",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["intended", "failed"]) | Q(codedeploy_id__isnull=False),
                name="deployment_requested_has_codedeploy_id",
            ),
        ]
        indexes = [
            # For the last one of an environment, and for those since a moment.
            models.Index(
                F("environment"), F("finished_at").desc(nulls_first=True), name="deployment_by_its_end"
            ),
        ]

    def __str__(self) -> str:
        return self.codedeploy_id or f"intent {self.intent}"


class GroupWatch(Leasable):
    """The looking for deployments of an environment's group that Lockkeeper did not ask for."""

    environment = models.OneToOneField(Environment, on_delete=models.CASCADE, related_name="group_watch")
    seen_until = models.DateTimeField(help_text="What was made before has been seen.")
    looked_at = models.DateTimeField(null=True, blank=True)
    problem = models.TextField(blank=True, default="", help_text="Why the last look failed.")

    class Meta:
        verbose_name_plural = "group watches"

    def __str__(self) -> str:
        return f"foreign deployments to {self.environment}"


class Target(models.Model):
    """A host in a deployment."""

    # Of hosts to which a deployment has not come, or will not come any more.
    LEFT_ALONE = ("Pending", "Skipped")

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="targets")
    target_id = models.CharField(max_length=200)
    status = models.CharField(
        max_length=12, help_text="CodeDeploy's: Pending, InProgress, Succeeded, Failed …"
    )
    updated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["deployment", "target_id"]
        constraints = [
            models.UniqueConstraint(fields=["deployment", "target_id"], name="target_once_per_deployment")
        ]

    def __str__(self) -> str:
        return self.target_id


class HookEvent(models.Model):
    """A lifecycle event on a host."""

    # What CodeDeploy says of it, and says anew whenever it is asked.
    TOLD = ("status", "started_at", "finished_at", "error_code", "script", "message", "log_tail")

    target = models.ForeignKey(Target, on_delete=models.CASCADE, related_name="events")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=40, help_text="ApplicationStop, BeforeInstall …")
    status = models.CharField(max_length=12)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    script = models.TextField(blank=True)
    message = models.TextField(blank=True)
    log_tail = models.TextField(blank=True)

    class Meta:
        ordering = ["target", "position"]
        constraints = [models.UniqueConstraint(fields=["target", "name"], name="hook_event_once_per_target")]

    def __str__(self) -> str:
        return self.name


class FlightRecord(models.Model):
    """What a host says that an event did: its flight record in S3, as it was last read."""

    class Result(models.TextChoices):
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        UNREADABLE = "unreadable"

    # With it, one per target and event.
    event = models.OneToOneField(HookEvent, on_delete=models.CASCADE, related_name="record")
    key = models.TextField()
    etag = models.CharField(
        max_length=100, help_text="Of the object that was read; another one is read again."
    )
    object_version = models.TextField(blank=True)
    document = models.JSONField(
        default=dict, blank=True, help_text="Checked and cut (apps.deployments.records); empty if unreadable."
    )
    result = models.CharField(max_length=10, choices=Result)
    problem = models.TextField(blank=True, help_text="Why it is unreadable.")
    cause = models.CharField(
        max_length=40, blank=True, help_text="A known cause's code, as the host names it."
    )
    seconds = models.FloatField(null=True, blank=True)
    read_at = models.DateTimeField()

    class Meta:
        ordering = ["event"]
        constraints = [
            models.CheckConstraint(
                condition=Q(result__in=["running", "succeeded", "failed", "unreadable"]),
                name="flight_record_result_known",
            ),
        ]

    def __str__(self) -> str:
        return self.key


class FlightWatchQuerySet(models.QuerySet["FlightWatch"]):
    def open(self) -> "FlightWatchQuerySet":
        """Of deployments whose records may still come."""
        return self.filter(over=False)


class FlightWatch(Leasable):
    """The looking for a deployment's flight records.

    It has a lease of its own: S3 being away must not keep anybody from following the deployment itself.
    """

    deployment = models.OneToOneField(Deployment, on_delete=models.CASCADE, related_name="flight_watch")
    after = models.TextField(
        blank=True,
        help_text="The key after which the next look goes on, percent-encoded; empty: from the first.",
    )
    looked_at = models.DateTimeField(null=True, blank=True)
    problem = models.TextField(blank=True, help_text="Why the last look failed.")
    over = models.BooleanField(default=False)

    objects = FlightWatchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "flight watches"
        indexes = [
            # For the reconciler, which asks for open ones that nobody holds; most are over.
            models.Index(fields=["lease_until", "id"], condition=Q(over=False), name="flight_watch_open"),
        ]

    def __str__(self) -> str:
        return f"flight records of {self.deployment_id}"


class OccupancyQuerySet(models.QuerySet["Occupancy"]):
    def current(self) -> "OccupancyQuerySet":
        """What runs now."""
        return self.filter(until=None)

    def with_incidents(self) -> "OccupancyQuerySet":
        """Each with ``incidents``: the other deployments that reached hosts in its time, oldest first.

        They are dictionaries with ``begin``, ``end`` (None while under way), ``status``, ``origin``,
        ``release`` (its id) and ``hosts``, the status of each. A deployment group has one deployment at a
        time, so the last is the one that ended the occupancy.
        """
        return self.annotate(incidents=_incidents())


@cache  # Django takes longer to make it than PostgreSQL to answer it.
def _incidents() -> ArraySubquery:
    others = Deployment.objects.filter(environment=OuterRef("environment")).exclude(pk=OuterRef("deployment"))
    over = Coalesce(OuterRef("until"), Value(NEVER))
    ended = Q(finished_at__gt=OuterRef("since"), finished_at__lte=over)
    others = others.filter(ended | Q(finished_at=None)).reached_hosts()
    others = others.alias(begin=Coalesce("started_at", "created_at"))
    others = others.filter(begin__lt=over).order_by("begin", "pk")
    hosts = Target.objects.filter(deployment=OuterRef("pk")).order_by().values("status")
    told = JSONObject(
        begin=Coalesce("started_at", "created_at"),
        end="finished_at",
        status="status",
        origin="origin",
        release="release_id",
        hosts=ArraySubquery(hosts),
    )
    return ArraySubquery(others.values(told=told))


class Occupancy(models.Model):
    """Which release is in which environment, from when to when."""

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="occupancies")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="occupancies")
    deployment = models.OneToOneField(Deployment, on_delete=models.PROTECT, related_name="occupancy")
    since = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)

    objects = OccupancyQuerySet.as_manager()

    class Meta:
        ordering = ["-since"]
        verbose_name_plural = "occupancies"
        constraints = [
            models.UniqueConstraint(
                fields=["environment"], condition=Q(until=None), name="occupancy_one_current_per_environment"
            ),
            models.CheckConstraint(
                condition=Q(until=None) | Q(until__gte=F("since")), name="occupancy_ends_after_start"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.release} in {self.environment}"
