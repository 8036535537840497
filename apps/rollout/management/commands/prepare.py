import time
from typing import Any

from django.core.management import call_command

from apps.rollout.commands import MigratingCommand
from apps.rollout.report import clear_report
from apps.rollout.static import collect_release


class Command(MigratingCommand):
    """What a release does on a host before it starts there."""

    help = (
        "Check the deployment's settings, collect static files and apply expand migrations, in one process. "
        "Running it again is safe."
    )

    def handle(self, *_args: Any, **options: Any) -> None:
        clear_report(options["report"])
        call_command("check", deploy=True, databases=["default"], stdout=self.stdout, stderr=self.stderr)
        began = time.monotonic()
        added = collect_release()
        self.say(f"{added} static files added in {time.monotonic() - began:.1f} s")
        # Last: a release that fails one of the above leaves the database as it was.
        self.migrate(**options)
