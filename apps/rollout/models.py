"""What happened to a database: each attempt to migrate it, and how it ended."""

from django.db import models
from django.db.models import Q


class MigrationRun(models.Model):
    """One host's attempt to apply a release's expand migrations. The holder of the migration lock writes it.

    The table is in the database that is migrated, so all hosts see it before any of them serves. Releases
    older and newer than its columns read and write it: a new column needs a default in the database.
    """

    class Result(models.TextChoices):
        RUNNING = "running"
        APPLIED = "applied"
        FAILED = "failed"
        # Its process, its host or PostgreSQL died on the way.
        ABANDONED = "abandoned"

    # CodeDeploy's; empty for an operator's own `manage.py migrate_once`.
    deployment_id = models.CharField(max_length=128, blank=True)
    # Of the release's bundle; empty in a checkout.
    digest = models.CharField(max_length=64, blank=True)
    host = models.CharField(max_length=255)
    # What was missing, in order, and what of it has been applied so far: ["app.0001_name", ...].
    plan = models.JSONField(default=list)
    applied = models.JSONField(default=list)
    started_at = models.DateTimeField()
    # Of an abandoned run: when it was found.
    finished_at = models.DateTimeField(null=True, blank=True)
    seconds = models.FloatField(null=True, blank=True)
    result = models.CharField(max_length=10, choices=Result.choices, default=Result.RUNNING)
    error = models.TextField(blank=True)
    # The code of a known cause (docs/hooks.md), where it is one.
    cause = models.CharField(max_length=40, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(result__in=["running", "applied", "failed", "abandoned"]),
                name="rollout_migrationrun_result",
            ),
            models.CheckConstraint(
                condition=Q(result="running", finished_at__isnull=True)
                | (~Q(result="running") & Q(finished_at__isnull=False)),
                name="rollout_migrationrun_finished",
            ),
            models.CheckConstraint(
                condition=Q(result__in=["running", "applied"], error="")
                | (Q(result__in=["failed", "abandoned"]) & ~Q(error="")),
                name="rollout_migrationrun_error",
            ),
            # The lock sees to it; a second one would mean that the lock was lost.
            models.UniqueConstraint(
                fields=["result"], condition=Q(result="running"), name="rollout_migrationrun_one_runs"
            ),
        ]
        indexes = [
            # How did this deployment's last run end?
            models.Index(fields=["deployment_id", "-id"], name="rollout_migrationrun_last"),
        ]

    def __str__(self) -> str:
        return f"{self.host}, {self.started_at:%Y-%m-%d %H:%M:%S}"
