"""Make a token for a program."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from apps.access.models import Scope
from apps.access.services import create_token, get_user
from apps.commands import DomainCommand


class Command(DomainCommand):
    help = "Make a token and print its secret, once. It acts as USER, limited by its scopes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER")
        parser.add_argument("name", metavar="NAME", help="What it is for.")
        parser.add_argument(
            "--scope", action="append", default=[], choices=Scope.values, help="Repeat for several."
        )
        parser.add_argument("--days", type=int, help="Expire after so many days; without it, never.")

    def handle(self, *args: Any, **options: Any) -> None:
        days = options["days"]
        expires_at = timezone.now() + timedelta(days=days) if days is not None else None
        user = get_user(options["user"])
        _, secret = create_token(
            user=user, name=options["name"], scopes=options["scope"], expires_at=expires_at
        )
        self.stderr.write("The secret is shown this once:")
        self.stdout.write(secret)
