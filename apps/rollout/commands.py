"""What the two commands that migrate have in common."""

import os
import socket
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from apps.commands import DomainCommand
from apps.rollout.migrate import migrate_once
from apps.rollout.report import clear_report, reported
from apps.rollout.version import current_release


class MigratingCommand(DomainCommand):
    """A command that ends in migrate_once; the hooks say by DEPLOYMENT_ID and HOST_NAME for whom."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--timeout",
            type=float,
            default=600,
            metavar="SECONDS",
            help="how long to wait for another host's migrations; 600 unless given",
        )
        parser.add_argument(
            "--report",
            type=Path,
            metavar="FILE",
            help="write what was done about migrations to FILE, as JSON, also when it fails",
        )

    def migrate(self, *, using: str = "default", **options: Any) -> None:
        clear_report(options["report"])
        host = os.environ.get("HOST_NAME") or socket.gethostname()
        with reported(host, options["report"], self.stderr.write) as outcome:
            migrate_once(
                outcome=outcome,
                timeout_s=options["timeout"],
                say=self.say,
                deployment=os.environ.get("DEPLOYMENT_ID", ""),
                digest=current_release().digest or "",
                using=using,
                verbosity=options["verbosity"],
            )

    def say(self, text: str) -> None:
        self.stdout.write(text)
        # Into a pipe it would otherwise be seen only at the end.
        self.stdout.flush()
