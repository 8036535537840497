"""Bring an older release back."""

from typing import Any

from django.core.management.base import CommandParser

from apps.access.services import get_user
from apps.catalog.services import get_environment, get_service
from apps.promotions.management.commands.promote import WaitingCommand
from apps.promotions.rollbacks import request_rollback
from apps.releases.services import find_release


class Command(WaitingCommand):
    help = (
        "Bring back to ENVIRONMENT the release that ran there before, or another that has, judged by the "
        "policy's rules for rollbacks. Refused, with nothing moved, where the database has seen a migration "
        "that it could not run with. What waits there is superseded. Exits 0 when it passes, 10 blocked, 11 "
        "waits for a person, 12 for time, 13 inconclusive, 14 waits for evidence, 1 on an error or a "
        "refusal. Asking again is safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", metavar="SERVICE")
        parser.add_argument("environment", metavar="ENVIRONMENT")
        parser.add_argument("--to", metavar="RELEASE", help="A version, a digest or its beginning, or an id.")
        parser.add_argument("--user", required=True, help="Who asks: an operator of the service.")
        parser.add_argument("--comment", default="", help="Why, for the ledger and for whoever looks.")
        parser.add_argument(
            "--not-applied",
            metavar="APP.NAME",
            action="append",
            default=[],
            help="A contract migration that you have found not to be applied; may be given several times.",
        )
        self.add_waiting(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        service = get_service(options["service"])
        environment = get_environment(service=service, slug=options["environment"])
        name = options["to"]
        promotion = request_rollback(
            environment=environment,
            requested_by=get_user(options["user"]),
            release=find_release(service=service, name=name) if name else None,
            comment=options["comment"],
            not_applied=set(options["not_applied"]),
        )
        self.follow(promotion, options)
