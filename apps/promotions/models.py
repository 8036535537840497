"""The wish to bring a release to an environment, who agreed, and what people hold back."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from apps.catalog.models import Environment
from apps.deployments.models import Deployment
from apps.gates.facts import WindowFact
from apps.gates.models import Decision, Policy
from apps.gates.verdicts import Verdict
from apps.leases import Leasable
from apps.releases.models import Release


class PromotionQuerySet(models.QuerySet["Promotion"]):
    def pending(self) -> "PromotionQuerySet":
        """Promotions that still wait at their gate."""
        return self.filter(status=Promotion.Status.PENDING)

    def rollbacks(self) -> "PromotionQuerySet":
        """Those that bring an older release back."""
        return self.filter(rollback=True)

    def under_way(self) -> "PromotionQuerySet":
        """Promotions that have passed their gate and have not come to their end."""
        return self.filter(status__in=Promotion.UNDER_WAY)


class Promotion(Leasable):
    """The wish to bring a release to an environment. A retry is a new promotion."""

    class Status(models.TextChoices):
        PENDING = "pending"
        DEPLOYING = "deploying"
        VERIFYING = "verifying"
        SUCCEEDED = "succeeded"
        FAILED = "failed", "failed (the release's fault)"
        ERRORED = "errored", "errored (ours or AWS's)"
        REJECTED = "rejected"
        CANCELLED = "cancelled"
        SUPERSEDED = "superseded"

    UNDER_WAY = (Status.DEPLOYING, Status.VERIFYING)
    FINAL = (
        Status.SUCCEEDED,
        Status.FAILED,
        Status.ERRORED,
        Status.REJECTED,
        Status.CANCELLED,
        Status.SUPERSEDED,
    )

    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="promotions")
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="promotions")
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    reason = models.TextField(blank=True, help_text="Why it ended as it did.")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    rollback = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Whether it brings an older release back, by the policy's rules for that.",
    )
    comment = models.TextField(blank=True, default="", db_default="", help_text="Why it was asked for.")
    # Contract migrations, as app.name: whoever asked for the rollback has looked.
    not_applied = ArrayField(
        models.CharField(max_length=300),
        default=list,
        db_default=[],
        blank=True,
        help_text="Contract migrations of which the requester says that they have not been applied.",
    )
    decision = models.ForeignKey(
        Decision, null=True, blank=True, on_delete=models.PROTECT, related_name="promotions"
    )
    deployment = models.OneToOneField(
        Deployment, null=True, blank=True, on_delete=models.PROTECT, related_name="promotion"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = PromotionQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment"],
                condition=Q(status__in=["deploying", "verifying"]),
                name="promotion_one_under_way_per_environment",
            ),
            models.UniqueConstraint(
                fields=["environment", "release"],
                condition=Q(status="pending"),
                name="promotion_one_pending_per_release",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["deploying", "verifying", "succeeded", "failed"])
                | Q(deployment__isnull=False),
                name="promotion_past_the_gate_has_deployment",
            ),
            models.CheckConstraint(
                condition=Q(
                    status__in=[
                        "pending",
                        "deploying",
                        "verifying",
                        "succeeded",
                        "failed",
                        "errored",
                        "rejected",
                        "cancelled",
                        "superseded",
                    ]
                ),
                name="promotion_status_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.release} → {self.environment}"


class Approval(models.Model):
    """A person's word on a promotion; it can be given once, unless it was withdrawn."""

    class Verdict(models.TextChoices):
        APPROVED = "approved"
        REJECTED = "rejected"

    promotion = models.ForeignKey(Promotion, on_delete=models.PROTECT, related_name="approvals")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    verdict = models.CharField(max_length=8, choices=Verdict)
    comment = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    withdrawn_at = models.DateTimeField(null=True, blank=True, help_text="Since then it counts no longer.")

    class Meta:
        ordering = ["promotion", "created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["promotion", "user"],
                condition=Q(withdrawn_at=None),
                name="approval_once_per_user_unless_withdrawn",
            ),
            models.CheckConstraint(
                condition=Q(verdict__in=["approved", "rejected"]), name="approval_verdict_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} {self.verdict}"


class PinQuerySet(models.QuerySet["Pin"]):
    def standing(self) -> "PinQuerySet":
        """Those that hold their environment now."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()), lifted_at=None)


class Pin(models.Model):
    """An environment is held at a release: no other may go there until the pin is lifted or has expired."""

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="pins")
    release = models.ForeignKey(
        Release,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Without one, what runs there now.",
    )
    reason = models.TextField(max_length=2000)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="It holds until then; without, until somebody lifts it."
    )
    lifted_at = models.DateTimeField(null=True, blank=True)
    # Nobody, where it had expired when the next one was set.
    lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    objects = PinQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment"], condition=Q(lifted_at=None), name="pin_one_open_per_environment"
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="pin_has_a_reason"),
            models.CheckConstraint(
                condition=Q(expires_at=None) | Q(expires_at__gt=F("created_at")),
                name="pin_expires_after_it_was_set",
            ),
            models.CheckConstraint(
                condition=Q(lifted_by=None) | Q(lifted_at__isnull=False), name="pin_lifted_by_has_a_time"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.environment} held at {self.release}"

    @property
    def stands(self) -> bool:
        """Whether it holds its environment now."""
        return self.lifted_at is None and (self.expires_at is None or self.expires_at > timezone.now())


class VetoQuerySet(models.QuerySet["Veto"]):
    def standing(self) -> "VetoQuerySet":
        """Those that nobody has lifted."""
        return self.filter(lifted_at=None)


class Veto(models.Model):
    """A release may not go to an environment, or to none of its service's, until the veto is lifted."""

    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="vetoes")
    environment = models.ForeignKey(
        Environment,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Without one, every environment of the service.",
    )
    reason = models.TextField(max_length=2000)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    objects = VetoQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "vetoes"
        constraints = [
            # Two, since NULLs differ from each other.
            models.UniqueConstraint(
                fields=["release", "environment"],
                condition=Q(lifted_at=None),
                name="veto_one_open_per_environment",
            ),
            models.UniqueConstraint(
                fields=["release"],
                condition=Q(lifted_at=None, environment=None),
                name="veto_one_open_per_service",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="veto_has_a_reason"),
            models.CheckConstraint(
                condition=Q(lifted_by=None, lifted_at=None)
                | Q(lifted_by__isnull=False, lifted_at__isnull=False),
                name="veto_lifted_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.release} not to {self.environment or 'any environment'}"

    @property
    def stands(self) -> bool:
        """Whether nobody has lifted it."""
        return self.lifted_at is None


class Override(models.Model):
    """Operators let a promotion pass against its gate, for a time. It stays with the promotion for ever."""

    promotion = models.ForeignKey(Promotion, on_delete=models.PROTECT, related_name="overrides")
    rules = ArrayField(
        models.CharField(max_length=60),
        default=list,
        blank=True,
        help_text="Against which; none: all but those that have to be named.",
    )
    justification = models.TextField()
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    seconded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    seconded_at = models.DateTimeField(null=True, blank=True)
    withdrawn_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=~Q(justification=""), name="override_has_a_justification"),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="override_ends_after_it_was_given"
            ),
            models.CheckConstraint(
                condition=Q(seconded_by=None, seconded_at=None)
                | (Q(seconded_by__isnull=False, seconded_at__isnull=False) & ~Q(seconded_by=F("by"))),
                name="override_seconded_by_another",
            ),
            models.CheckConstraint(
                condition=Q(withdrawn_by=None, withdrawn_at=None)
                | Q(withdrawn_by__isnull=False, withdrawn_at__isnull=False),
                name="override_withdrawn_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.promotion} by {self.by}"


class Standing(Leasable):
    """Whether the release that runs in an environment would still pass its gate, as it was last judged."""

    environment = models.OneToOneField(Environment, on_delete=models.CASCADE, related_name="standing")
    release = models.ForeignKey(Release, null=True, on_delete=models.PROTECT, related_name="+")
    policy = models.ForeignKey(Policy, null=True, on_delete=models.PROTECT, related_name="+")
    verdict = models.CharField(max_length=20, choices=Verdict, blank=True)
    unmet = models.JSONField(default=list, encoder=DjangoJSONEncoder)
    # None before the first judgement, and while nothing runs there.
    still_passes = models.BooleanField(null=True)
    since = models.DateTimeField(null=True, help_text="Since when it passes, or does not.")
    judged_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.environment}: {self.verdict or 'not judged'}"


class Window(models.Model):
    """When an environment may be deployed to, or may not; what it means is for apps.gates.windows to say."""

    class Kind(models.TextChoices):
        ALLOW = "allow", "allow: deployments only while it is open"
        DENY = "deny", "deny: no deployments while it is open"

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="windows")
    kind = models.CharField(max_length=5, choices=Kind)
    name = models.CharField(max_length=60, help_text="What people call it, such as office hours.")
    # Text, since PostgreSQL's and Django's times of day and year are of one zone.
    starts_at = models.CharField(
        max_length=16, help_text="When it first opens, in its time zone: 2026-03-01T22:00."
    )
    timezone = models.CharField(
        max_length=64, default="UTC", help_text="A name of the IANA database, such as Europe/Berlin."
    )
    minutes = models.PositiveIntegerField(help_text="How long it stays open each time.")
    rrule = models.CharField(
        "recurrence",
        max_length=300,
        blank=True,
        help_text="When it opens again, as an RRULE (RFC 5545): FREQ=WEEKLY;BYDAY=MO,TU,WE,TH. Empty: once.",
    )

    class Meta:
        ordering = ["environment", "name"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "name"], name="window_name_once_per_environment"),
            models.CheckConstraint(condition=Q(kind__in=["allow", "deny"]), name="window_kind_known"),
            models.CheckConstraint(condition=Q(minutes__gte=1), name="window_has_minutes"),
        ]

    def __str__(self) -> str:
        return self.name

    def fact(self) -> WindowFact:
        """What a gate is told of it."""
        return WindowFact(
            id=self.pk or 0,
            name=self.name,
            kind=self.kind,
            starts_at=self.starts_at,
            minutes=self.minutes,
            timezone=self.timezone,
            rrule=self.rrule,
        )
