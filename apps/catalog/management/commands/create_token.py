"""Make a token for a program.

It lives in catalog and not in access because a token may be limited to services.
"""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from apps.access.models import Scope
from apps.access.services import get_user
from apps.catalog.services import get_service
from apps.catalog.tokens import issue_token
from apps.commands import DomainCommand


class Command(DomainCommand):
    help = "Make a token and print its secret, once. It acts as USER, limited by its scopes and services."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER")
        parser.add_argument("name", metavar="NAME", help="What it is for.")
        parser.add_argument(
            "--scope", action="append", default=[], choices=Scope.values, help="Repeat for several."
        )
        parser.add_argument(
            "--service",
            action="append",
            default=[],
            metavar="SERVICE",
            help="Good for this service alone; repeat for several. Without, for all that USER sees.",
        )
        parser.add_argument("--days", type=int, help="Expire after so many days; without it, never.")

    def handle(self, *args: Any, **options: Any) -> None:
        days = options["days"]
        expires_at = timezone.now() + timedelta(days=days) if days is not None else None
        user = get_user(options["user"])
        services = [get_service(slug) for slug in options["service"]] or None
        _, secret = issue_token(
            user=user,
            name=options["name"],
            scopes=options["scope"],
            services=services,
            expires_at=expires_at,
        )
        self.stderr.write("The secret is shown this once:")
        self.stdout.write(secret)
