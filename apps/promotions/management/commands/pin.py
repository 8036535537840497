"""Hold an environment at a release, or let it go."""

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from apps.access.services import get_user
from apps.catalog.services import get_environment, get_service
from apps.commands import DomainCommand
from apps.errors import Invalid, NotFound
from apps.gates.rules.base import moment
from apps.promotions.holds import lift_pin, pin_environment
from apps.promotions.models import Pin
from apps.releases.services import find_release


class Command(DomainCommand):
    help = (
        "Hold ENVIRONMENT of SERVICE at what runs there, or at --release: no other may go there until the "
        "pin is lifted (--lift) or --hours have gone by. For operators. The same twice is safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", metavar="SERVICE")
        parser.add_argument("environment", metavar="ENVIRONMENT")
        parser.add_argument(
            "--release", help="Instead of what runs: a version, a digest or its beginning, or an id."
        )
        parser.add_argument("--reason", default="", help="What others read who are held up.")
        parser.add_argument("--hours", type=float, help="Hold it so long; otherwise until it is lifted.")
        parser.add_argument("--lift", action="store_true", help="Let it go; --reason is a comment then.")
        parser.add_argument("--user", required=True, help="Who does it: an operator of the service.")

    def handle(self, *args: Any, **options: Any) -> None:
        service = get_service(options["service"])
        environment = get_environment(service=service, slug=options["environment"])
        user = get_user(options["user"])
        where = f"{service.slug}/{environment.slug}"
        if options["lift"]:
            pins = Pin.objects.standing().filter(environment=environment)
            pin = pins.select_related("environment__service", "release").first()
            if pin is None:
                raise NotFound(f"Nobody holds {where} at a release.")
            lift_pin(pin=pin, user=user, comment=options["reason"])
            self.stdout.write(f"{where} is held at {pin.release.version} no longer.")
            return
        name = options["release"]
        pin = pin_environment(
            environment=environment,
            user=user,
            reason=options["reason"],
            release=find_release(service=service, name=name) if name else None,
            expires_at=_end(options["hours"]),
        )
        until = f"until {moment(pin.expires_at)}" if pin.expires_at else "until somebody lifts it"
        self.stdout.write(f"{where} is held at {pin.release.version} {until}.")


def _end(hours: float | None) -> datetime | None:
    try:
        return None if hours is None else timezone.now() + timedelta(hours=hours)
    except (OverflowError, ValueError) as error:
        raise Invalid(f"--hours {hours:g} is no time from now that there is.") from error
