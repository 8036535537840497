"""Services, their environments, and who may do what with them."""

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.expressions import RawSQL
from django.utils import timezone

from apps.access.models import User
from apps.leases import Leasable
from apps.ledger.models import Entry

slug = RegexValidator(
    r"^[a-z][a-z0-9-]*$", "Use lower-case letters, digits and hyphens, beginning with a letter."
)


def services_of(user: User) -> RawSQL:
    """The ids of the services of which the user is a member, to be looked up by ``__in``.

    Nearly every query of a member has it, and Django takes longer to put it together than the rest of most.
    """
    return RawSQL("SELECT service_id FROM catalog_membership WHERE user_id = %s", [user.pk])


class ServiceQuerySet(models.QuerySet["Service"]):
    def visible_to(self, user) -> "ServiceQuerySet":
        """Services of which the user is a member; superusers see all, a limited token only its own."""
        services = self if user.token_services is None else self.filter(slug__in=user.token_services)
        if user.is_superuser:
            return services
        return services.filter(pk__in=services_of(user))


class Service(models.Model):
    """Something that ships."""

    slug = models.CharField(max_length=60, unique=True, validators=[slug])
    name = models.CharField(max_length=100)
    repository = models.CharField(max_length=300, blank=True, help_text="Where its source is, for people.")
    bucket = models.CharField(max_length=63, help_text="The S3 bucket of its bundles and raw reports.")
    codebuild_project = models.CharField(max_length=255, unique=True)
    evidence_days = models.PositiveSmallIntegerField(
        "days of evidence",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="For how many days its reports keep their test cases; for ever where it is empty.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ServiceQuerySet.as_manager()

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(
                condition=Q(evidence_days=None) | Q(evidence_days__gte=1),
                name="service_keeps_evidence_for_a_day",
            )
        ]

    def __str__(self) -> str:
        return self.slug


class Environment(models.Model):
    """Where a service runs: one CodeDeploy deployment group."""

    class UpstreamMode(models.TextChoices):
        ALL = "all", "all upstreams"
        ANY = "any", "any upstream"

    service = models.ForeignKey(Service, on_delete=models.PROTECT, related_name="environments")
    slug = models.CharField(max_length=60, validators=[slug])
    position = models.PositiveSmallIntegerField(
        default=0, help_text="Deploy order: where several could start at once, lower goes first."
    )
    auto_promote = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Ask by itself for what its upstreams have proved; the gate decides as ever.",
    )
    application = models.CharField(max_length=100, help_text="CodeDeploy application.")
    deployment_group = models.CharField(max_length=100, help_text="CodeDeploy deployment group.")
    upstreams = models.ManyToManyField(
        "self", symmetrical=False, blank=True, related_name="downstreams", through="Upstream"
    )
    upstream_mode = models.CharField(max_length=3, choices=UpstreamMode, default=UpstreamMode.ALL)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["service", "position", "slug"]
        constraints = [
            models.UniqueConstraint(fields=["service", "slug"], name="environment_once_per_service"),
            models.UniqueConstraint(
                fields=["application", "deployment_group"], name="environment_one_per_group"
            ),
            models.CheckConstraint(
                condition=Q(upstream_mode__in=["all", "any"]), name="environment_upstream_mode_known"
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Upstream(models.Model):
    """An edge of the promotion graph: ``environment`` is promoted from ``source``."""

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="+")
    source = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "source"], name="upstream_once"),
            models.CheckConstraint(condition=~Q(environment=F("source")), name="upstream_not_itself"),
        ]

    def __str__(self) -> str:
        return f"{self.source_id} → {self.environment_id}"


class Membership(models.Model):
    """A role of a user in a service; somebody may hold several."""

    class Role(models.TextChoices):
        VIEWER = "viewer"
        DEVELOPER = "developer"
        APPROVER = "approver"
        OPERATOR = "operator"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)

    class Meta:
        ordering = ["service", "user", "role"]
        constraints = [
            models.UniqueConstraint(fields=["user", "service", "role"], name="membership_once"),
            models.CheckConstraint(
                condition=Q(role__in=["viewer", "developer", "approver", "operator"]),
                name="membership_role_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.service}"


class ApproverGroup(models.Model):
    """Approvers of a service under a name that policies use: two of ``release-managers`` must approve."""

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="approver_groups")
    name = models.CharField(max_length=60, validators=[slug])
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="approver_groups")

    class Meta:
        ordering = ["service", "name"]
        constraints = [
            models.UniqueConstraint(fields=["service", "name"], name="approver_group_once_per_service")
        ]

    def __str__(self) -> str:
        return self.name


class LedgerCopyQuerySet(models.QuerySet["LedgerCopy"]):
    def behind(self) -> "LedgerCopyQuerySet":
        """Those whose chain has grown since its head was last copied."""
        newer = Entry.objects.filter(chain=OuterRef("service__slug"), sequence__gt=OuterRef("sequence"))
        return self.filter(Exists(newer))


class LedgerCopy(Leasable):
    """How far the heads of a service's chain in the ledger have been copied to S3."""

    service = models.OneToOneField(Service, on_delete=models.CASCADE, related_name="ledger_copy")
    sequence = models.PositiveBigIntegerField(default=0, db_default=0)

    objects = LedgerCopyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "ledger copies"

    def __str__(self) -> str:
        return f"{self.service} up to {self.sequence}"
