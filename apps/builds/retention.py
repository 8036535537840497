"""Take away what reports hold once their service's policy no longer keeps it.

A report's outcomes, what its cases said, its coverage by file and where its raw files are go; its counters
stay, with a note that it was pruned and when. Cases keep their names and positions. Nothing in S3 is touched,
and the ledger goes on naming each raw file with its version and SHA-256.
"""

from collections.abc import Collection
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from apps.builds.models import CoveredFiles, Report, ReportFile, ReportOutcomes, TestResult
from apps.catalog.models import Service
from apps.ledger.services import record


def prunable_reports(*, service: Service, before: datetime, keep: Collection[int]) -> QuerySet[Report]:
    """The service's reports that were read before a time and not pruned yet, but for builds to ``keep``."""
    reports = Report.objects.filter(build__service=service, created_at__lt=before, pruned_at=None)
    return reports.exclude(build__in=keep)


def prune_batch(*, service: Service, before: datetime, keep: Collection[int], size: int) -> int:
    """Prune at most ``size`` reports, the oldest first; how many there were. 0 when all is done.

    Each batch is one transaction, so it may be stopped at any moment and run again. Reports that another
    process is pruning are left to it.
    """
    with transaction.atomic():
        rows = prunable_reports(service=service, before=before, keep=keep).order_by("pk")
        locked = rows.select_for_update(skip_locked=True, of=("self",))[:size]
        reports = list(locked.values_list("pk", "build"))
        keys = [report for report, _ in reports]
        if not keys:
            return 0
        # The field's on_delete would fetch every row first.
        for model in (TestResult, CoveredFiles, ReportFile, ReportOutcomes):
            rows_of_it = model._base_manager.filter(report__in=keys)
            rows_of_it._raw_delete(rows_of_it.db)
        Report.objects.filter(pk__in=keys).update(pruned_at=timezone.now())
        record(
            chain=service.slug,
            action="evidence.pruned",
            subject=f"service:{service.pk}",
            data={
                "reports": keys,
                "builds": sorted({build for _, build in reports}),
                "before": before.isoformat(),
            },
        )
    return len(keys)
