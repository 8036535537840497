"""Releases: immutable bundles in S3."""

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.builds.models import Build
from apps.catalog.models import Service
from apps.leases import Leasable

sha256 = RegexValidator(r"^[0-9a-f]{64}$", "A SHA-256 is 64 hexadecimal digits.")


class Release(models.Model):
    """A bundle that the server has read and measured itself. Nothing of it changes but ``build``."""

    service = models.ForeignKey(Service, on_delete=models.PROTECT, related_name="releases")
    build = models.ForeignKey(
        Build,
        on_delete=models.PROTECT,
        related_name="releases",
        help_text="The newest build that produced exactly this bundle; its evidence counts.",
    )
    version = models.CharField(max_length=100)
    commit = models.CharField(max_length=40)
    digest = models.CharField(max_length=64, validators=[sha256], help_text="SHA-256 of the bundle.")
    bucket = models.CharField(max_length=63)
    key = models.CharField(max_length=1024)
    object_version = models.CharField(max_length=1024)
    etag = models.CharField(max_length=100)
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    manifest = models.JSONField()
    # As apps.releases.migration_source.Step.to_json writes them; read by the server, as the digest is.
    steps = models.JSONField(
        null=True,
        blank=True,
        help_text="Its migrations and what each leaves of the way back; empty where nobody has read them.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["service", "digest"], name="release_digest_once_per_service"),
            models.CheckConstraint(
                condition=Q(digest__regex=r"^[0-9a-f]{64}$"), name="release_digest_is_sha256"
            ),
        ]

    def __str__(self) -> str:
        return self.version


class BundleLook(Leasable):
    """Whether a release's bundle is still in S3 as it was registered: what the last look found.

    A version in S3 cannot be overwritten, but it can be deleted.
    """

    release = models.OneToOneField(Release, on_delete=models.CASCADE, related_name="look")
    asked_at = models.DateTimeField(null=True, help_text="When S3 was last asked, with or without an answer.")
    problem = models.TextField(blank=True, help_text="How it differs from what was registered.")
    since = models.DateTimeField(null=True, help_text="Since when each answer of S3 was the same.")
    failing_since = models.DateTimeField(null=True, help_text="Since when S3 gives no answer.")
    failure = models.TextField(blank=True, help_text="Why the last look got no answer.")

    def __str__(self) -> str:
        return f"bundle of {self.release}"
