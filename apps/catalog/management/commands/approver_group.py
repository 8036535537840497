"""Make a group of approvers, and say who is in it."""

from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from apps.access.models import User
from apps.access.services import get_user
from apps.catalog.groups import add_to_group, get_group, register_group, remove_from_group
from apps.catalog.services import get_service
from apps.commands import DomainCommand
from apps.errors import NotFound


class Command(DomainCommand):
    help = (
        "Show a service's group of approvers, after adding and removing members, all or nothing. With --add "
        "a group that does not exist is made. Running it twice is safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", metavar="SERVICE")
        parser.add_argument("name", metavar="GROUP", help="As policies name it, such as release-managers.")
        parser.add_argument("--add", action="append", default=[], metavar="USER", help="Repeat for several.")
        parser.add_argument(
            "--remove", action="append", default=[], metavar="USER", help="Repeat for several."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        service = get_service(options["service"])
        with transaction.atomic():
            find = register_group if options["add"] else get_group
            group = find(service=service, name=options["name"])
            for username in options["add"]:
                add_to_group(group=group, user=get_user(username))
            for username in options["remove"]:
                # Somebody inactive is to be taken out, too.
                user = User.objects.filter(username=username).first()
                if user is None:
                    raise NotFound(f"There is no user {username!r}.")
                remove_from_group(group=group, user=user)
        members = ", ".join(group.members.order_by("username").values_list("username", flat=True))
        self.stdout.write(f"{service.slug}/{group.name}: {members or 'nobody'}.")
