"""Make a person or a service account, with its roles.

It lives in catalog and not in access because roles belong to services.
"""

import os
import secrets
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from apps.access.models import User
from apps.access.services import create_user
from apps.catalog.models import Membership
from apps.catalog.services import get_service, grant_role
from apps.commands import DomainCommand


class Command(DomainCommand):
    help = (
        "Make a user with roles, or give roles to one that exists. The password comes from the variable "
        "LOCKKEEPER_PASSWORD; with --generate-password one is made and printed, once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", metavar="NAME")
        parser.add_argument(
            "--role",
            action="append",
            default=[],
            metavar="ROLE:SERVICE",
            help=f"{', '.join(Membership.Role.values)} of a service. Repeat for several.",
        )
        parser.add_argument("--email", default="")
        parser.add_argument("--generate-password", action="store_true")
        parser.add_argument("--staff", action="store_true", help="May log in to the admin.")
        parser.add_argument("--superuser", action="store_true")
        parser.add_argument("--service-account", action="store_true", help="Holds tokens only; no password.")

    def handle(self, *args: Any, **options: Any) -> None:
        roles = []
        for pair in options["role"]:
            role, colon, slug = pair.partition(":")
            if not colon:
                raise CommandError(f"--role {pair}: write ROLE:SERVICE, as in developer:lockkeeper.")
            roles.append((role, get_service(slug)))
        password = os.environ.get("LOCKKEEPER_PASSWORD") or None
        if options["generate_password"]:
            password = secrets.token_urlsafe(18)
        with transaction.atomic():
            user, created = create_user(
                username=options["username"],
                password=password,
                kind=User.Kind.SERVICE if options["service_account"] else User.Kind.PERSON,
                email=options["email"],
                is_staff=options["staff"],
                is_superuser=options["superuser"],
            )
            for role, service in roles:
                grant_role(user=user, service=service, role=role)
        held = ", ".join(f"{role} of {service.slug}" for role, service in roles) or "no new role"
        self.stderr.write(f"{'Made' if created else 'Updated'} {user.username}: {held}.")
        if options["generate_password"] and password:
            # Alone on stdout, so that a script can take it.
            self.stdout.write(password)
