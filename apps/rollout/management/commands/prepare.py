import time
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command

from apps.commands import DomainCommand
from apps.rollout.migrate import migrate_once
from apps.rollout.static import collect_release


class Command(DomainCommand):
    """What a release does on a host before it starts there."""

    help = (
        "Check the deployment's settings, collect static files and apply expand migrations, in one process. "
        "Running it again is safe."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--timeout",
            type=float,
            default=600,
            metavar="SECONDS",
            help="how long to wait for another host's migrations; 600 unless given",
        )
        parser.add_argument("--report", metavar="FILE", help="where to write what became of the migrations")

    def handle(self, *_args: Any, **options: Any) -> None:
        call_command("check", deploy=True, databases=["default"], stdout=self.stdout, stderr=self.stderr)
        began = time.monotonic()
        added = collect_release()
        self.stdout.write(f"{added} static files added in {time.monotonic() - began:.1f} s")
        # Last: a release that fails one of the above leaves the database as it was.
        migrate_once(timeout_s=options["timeout"], say=self.stdout.write, verbosity=options["verbosity"])
