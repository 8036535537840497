from argparse import ArgumentParser
from typing import Any

from apps.commands import DomainCommand
from apps.rollout.migrate import migrate_once


class Command(DomainCommand):
    """Apply expand migrations, on one host only."""

    help = (
        "Apply the expand migrations of this release once, however many hosts run this at the same moment. "
        "Contract migrations are left alone."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--timeout",
            type=float,
            default=600,
            metavar="SECONDS",
            help="how long to wait for another host's migrations; 600 unless given",
        )

        parser.add_argument(
            "--database", default="default", help="the connection to migrate; default unless given"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        migrate_once(
            timeout_s=options["timeout"],
            say=self.stdout.write,
            using=options["database"],
            verbosity=options["verbosity"],
        )
