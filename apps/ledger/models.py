"""The hash chains that record who did what, one per service."""

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models


class Entry(models.Model):
    """One recorded act. UPDATE, DELETE and TRUNCATE are refused by a trigger (migration 0002)."""

    chain = models.CharField(max_length=100, help_text="The service's slug.")
    sequence = models.PositiveBigIntegerField()
    at = models.DateTimeField()
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Empty when Lockkeeper itself acted.",
    )
    action = models.CharField(max_length=60, help_text="Noun and verb, as in promotion.approved.")
    subject = models.CharField(max_length=100, help_text="Noun and key, as in promotion:17.")
    data = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["chain", "sequence"]
        verbose_name_plural = "entries"
        constraints = [
            models.UniqueConstraint(fields=["chain", "sequence"], name="ledger_sequence_once_per_chain")
        ]
        # The history of one promotion or release, newest last.
        indexes = [models.Index(fields=["subject", "sequence"], name="ledger_subject")]

    def __str__(self) -> str:
        return f"{self.chain} #{self.sequence} {self.action}"
