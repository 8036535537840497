from argparse import ArgumentParser
from typing import Any

from apps.rollout.commands import MigratingCommand


class Command(MigratingCommand):
    """Apply expand migrations, on one host only."""

    help = (
        "Apply the expand migrations of this release once, however many hosts run this at the same moment. "
        "Contract migrations are left alone. With DEPLOYMENT_ID in the environment, what failed on one host "
        "is not tried again on the others."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--database", default="default", help="the connection to migrate; default unless given"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        self.migrate(using=options.pop("database"), **options)
