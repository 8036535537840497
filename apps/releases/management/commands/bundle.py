"""Make the bundle that CodeDeploy ships."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.errors import DomainError
from apps.releases.bundle import make_bundle


class Command(BaseCommand):
    help = "Make a deterministic bundle of this source tree; its SHA-256 names the release. No database."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, default=Path("bundle.tar"), help="where to write it")
        parser.add_argument(
            "--wheelhouse", type=Path, default=Path("wheelhouse"), help="folder with the wheels of the lock"
        )
        parser.add_argument("--service", default="lockkeeper", help="slug of the service it is a release of")
        parser.add_argument("--root", type=Path, default=settings.BASE_DIR, help="the source tree")

    def handle(self, *args: object, **options: Any) -> None:
        try:
            bundle = make_bundle(
                root=options["root"],
                output=options["output"],
                wheelhouse=options["wheelhouse"],
                service=options["service"],
            )
        except DomainError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            # No space, no permission: the operating system's words, and nothing half-written stays.
            raise CommandError(f"The bundle could not be written: {error}") from error
        self.stdout.write(
            f"{bundle.path}: {bundle.document['version']}, {len(bundle.document['files'])} files, "
            f"{bundle.size:,} bytes, sha256 {bundle.digest}"
        )
