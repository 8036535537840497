"""End a token."""

from typing import Any

from django.core.management.base import CommandParser

from apps.access.services import get_user, revoke_token
from apps.commands import DomainCommand
from apps.errors import NotFound


class Command(DomainCommand):
    help = "End a user's token at once. Running it twice is safe."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER")
        parser.add_argument("name", metavar="NAME")

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user(options["user"])
        token = user.tokens.filter(name=options["name"]).first()
        if token is None:
            names = ", ".join(user.tokens.values_list("name", flat=True)) or "none"
            raise NotFound(f"{user.username} has no token {options['name']!r}. Known: {names}.")
        revoke_token(token=token)
        self.stdout.write(f"{token} is revoked since {token.revoked_at:%Y-%m-%d %H:%M:%S} UTC.")
