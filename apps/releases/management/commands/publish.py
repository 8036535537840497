"""Put a bundle into S3 under its digest."""

import shlex
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.aws.errors import AwsError
from apps.errors import DomainError
from apps.releases.publish import Published, publish_bundle


class Command(BaseCommand):
    help = (
        "Put a bundle into a versioned S3 bucket as PREFIX/DIGEST.tar and say where it is. Doing it again "
        "changes nothing. No database."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("bundle", type=Path)
        parser.add_argument("--bucket", required=True)
        parser.add_argument("--prefix", required=True, help="such as releases/lockkeeper")
        parser.add_argument(
            "--export",
            type=Path,
            metavar="FILE",
            help="also write LOCKKEEPER_BUNDLE_KEY, _VERSION and _SHA256 there, for a shell to source",
        )

    def handle(self, *args: object, **options: Any) -> None:
        try:
            published = publish_bundle(
                path=options["bundle"], bucket=options["bucket"], prefix=options["prefix"]
            )
            if options["export"]:
                options["export"].write_text(self.exports(published))
        except (DomainError, AwsError) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"The bundle could not be published: {error}") from error
        self.stdout.write(
            f"{'Published' if published.new else 'Already published'}: "
            f"s3://{options['bucket']}/{published.key} version {published.version}"
        )
        self.stdout.write(self.exports(published), ending="")

    @staticmethod
    def exports(published: Published) -> str:
        """The lines of shell that set the variables which buildspec.yml exports."""
        values = {
            "LOCKKEEPER_BUNDLE_KEY": published.key,
            "LOCKKEEPER_BUNDLE_VERSION": published.version,
            "LOCKKEEPER_BUNDLE_SHA256": published.sha256,
        }
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
