import logging
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.sandbox.processes import die_with_parent
from apps.sandbox.runtime import BuildLimits
from apps.sandbox.server import Server, StartupError


class Command(BaseCommand):
    help = (
        "Serve an embedded AWS for development and tests: CodeBuild, CodeDeploy and network load balancers "
        "that really run, and moto's S3, SQS, EventBridge, STS, SSM, Secrets Manager and EC2. Its state "
        "lives as long as this process."
    )
    requires_system_checks = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--state", type=Path, required=True, help="folder for builds, hosts and logs")
        parser.add_argument(
            "--address",
            default="127.0.0.1",
            help="this machine's address to serve at (default: %(default)s); requests are not authenticated",
        )
        parser.add_argument("--port", type=int, default=0, help="port at that address (default: a free one)")
        parser.add_argument(
            "--ready-file",
            type=Path,
            help='file that gets {"endpoint": "http://…"} once requests are answered',
        )
        parser.add_argument(
            "--builds-at-once",
            type=int,
            default=0,
            metavar="N",
            help="builds that run at the same time; further ones are QUEUED (default: no limit)",
        )
        parser.add_argument(
            "--build-minute",
            type=float,
            default=60.0,
            metavar="SECONDS",
            help="how long a minute of a build's timeouts lasts, for trying them out (default: %(default)g)",
        )
        parser.add_argument(
            "--with-parent", action="store_true", help="stop when the process that started this one ends"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["builds_at_once"] < 0 or options["build_minute"] <= 0:
            raise CommandError(
                "--builds-at-once is 0 (no limit) or more, --build-minute more than 0 seconds."
            )
        if options["with_parent"]:
            die_with_parent()
        logging.getLogger("botocore").setLevel(logging.WARNING)
        try:
            limits = BuildLimits(at_once=options["builds_at_once"], minute=options["build_minute"])
            server = Server(options["state"], options["address"], options["port"], limits)
            self.stdout.write(f"AWS_ENDPOINT_URL={server.endpoint}")
            self.stdout.flush()
            server.run(options["ready_file"])
        except StartupError as error:
            raise CommandError(str(error)) from error
