"""Prune the evidence that services no longer keep."""

from typing import Any

from django.core.management.base import CommandParser

from apps.catalog.models import Service
from apps.catalog.services import get_service
from apps.commands import DomainCommand
from apps.errors import Invalid
from apps.promotions.retention import BATCH, count_prunable, prune_service, pruned_before


class Command(DomainCommand):
    help = (
        "Remove outcomes, messages and places of raw files of the reports that are older than their service "
        "keeps evidence (evidence_days; without it, for ever). Counters, decisions and the ledger stay, so "
        "do reports of what is current or previous in an environment, pinned there or on its way there, and "
        "whatever is in S3. It may be stopped at any time and run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("services", nargs="*", metavar="SERVICE", help="By slug; all without.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be pruned.")
        parser.add_argument(
            "--batch", type=int, default=BATCH, metavar="N", help="Reports of one transaction (%(default)s)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["batch"] <= 10_000:
            raise Invalid("--batch is a number from 1 to 10,000.")
        named = [get_service(slug) for slug in options["services"]]
        for service in named or Service.objects.all():
            before = pruned_before(service)
            if before is None:
                self.stdout.write(f"{service.slug}: keeps all its evidence.")
                continue
            if options["dry_run"]:
                count, done = count_prunable(service), "would be pruned"
            else:
                count, done = prune_service(service, batch=options["batch"]), "pruned"
            noun = "report" if count == 1 else "reports"
            self.stdout.write(f"{service.slug}: {count:,} {noun} from before {before:%Y-%m-%d} {done}.")
