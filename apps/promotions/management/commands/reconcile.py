"""Move the world towards the rows, for as long as it runs."""

import gc
import signal
from datetime import timedelta
from typing import Any

import structlog
from django.core.management.base import CommandParser

from apps.commands import DomainCommand
from apps.promotions.reconcile import LEASE, Reconciler, reconcile_once

SHORTEST_LEASE = 1.0  # seconds

log = structlog.get_logger(__name__)


class Command(DomainCommand):
    help = (
        "Collect builds, register releases, judge promotions, tell CodeDeploy and watch it. As many as "
        "wanted may run side by side. TERM or INT end it after the work in hand."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="Do what can be done now, and end.")
        parser.add_argument("--idle", type=float, default=1.0, help="Seconds to sleep when nothing is due.")
        parser.add_argument(
            "--lease",
            type=float,
            default=LEASE.total_seconds(),
            help="Seconds that a worker may be silent before another takes its row over.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        lease = timedelta(seconds=max(options["lease"], SHORTEST_LEASE))
        reconciler = Reconciler(idle=options["idle"], lease=lease)

        def finish(number: int, frame: object) -> None:
            log.info("ending after the work in hand", signal=signal.Signals(number).name)
            reconciler.stop.set()

        previous = {number: signal.signal(number, finish) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            if options["once"]:
                while not reconciler.stop.is_set() and reconcile_once(reconciler):
                    pass
            else:
                # As backend/wsgi.py does: what is loaded by now stays for good.
                gc.collect()
                gc.freeze()
                log.info("reconciling", owner=reconciler.owner)
                reconciler.run()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
