"""Policies, and the decisions made by them."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from apps.as_json import QuickDecoder, QuickEncoder
from apps.catalog.models import Environment
from apps.gates.verdicts import Verdict
from apps.releases.models import Release


class PolicyQuerySet(models.QuerySet["Policy"]):
    def newest(self) -> "PolicyQuerySet":
        """The version in force of each environment's policy."""
        return self.order_by("environment_id", "-version").distinct("environment_id")


class Policy(models.Model):
    """One version of an environment's rules; a change is a new version."""

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="policies")
    version = models.PositiveIntegerField()
    rules = models.JSONField(
        help_text='A list such as [{"rule": "max_failures", "parameters": {"maximum": 0}}].'
    )
    # In the same version, so that whoever asks for the newest one has both.
    rollback = models.JSONField(
        null=True,
        blank=True,
        help_text="The rules for bringing an older release back; empty until that is asked for.",
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PolicyQuerySet.as_manager()

    class Meta:
        ordering = ["environment", "-version"]
        verbose_name_plural = "policies"
        constraints = [models.UniqueConstraint(fields=["environment", "version"], name="policy_version_once")]

    def __str__(self) -> str:
        return f"{self.environment} v{self.version}"

    def rules_for(self, *, rollback: bool) -> list[dict[str, Any]]:
        """The rules for a promotion, or those for one that brings an older release back."""
        rules: list[dict[str, Any]] = self.rollback or [] if rollback else self.rules
        return rules


class Decision(models.Model):
    """What a policy said of a release, with the facts it was told; written when any of them changed."""

    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="decisions")
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="decisions")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="decisions")
    facts = models.JSONField(encoder=QuickEncoder, decoder=QuickDecoder)
    findings = models.JSONField(encoder=QuickEncoder, decoder=QuickDecoder)
    verdict = models.CharField(max_length=20, choices=Verdict)
    evaluated_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        # The history of one release at one gate.
        indexes = [models.Index(fields=["environment", "release", "-id"], name="decision_history")]

    def __str__(self) -> str:
        return f"{self.release} → {self.environment}: {self.verdict}"
