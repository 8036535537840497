"""Say when an environment may be deployed to, or see what was said."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from apps.access.services import get_user
from apps.catalog.models import Environment
from apps.catalog.services import get_environment, get_service
from apps.commands import DomainCommand
from apps.errors import Invalid, NotFound
from apps.gates.rules.base import moment
from apps.gates.windows import is_open, next_openings
from apps.promotions.models import Window
from apps.promotions.windows import add_window, change_window, remove_window

# What a window has beside its name, all of which one that is new must be given but for the rule.
PARTS = ("kind", "starts_at", "timezone", "minutes", "rrule")
OPENINGS_SHOWN = 3


class Command(DomainCommand):
    help = (
        "List the windows of ENVIRONMENT of SERVICE with their next openings; with --set add one, or change "
        "what is named of the one of that name; with --remove take one away. For operators."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", metavar="SERVICE")
        parser.add_argument("environment", metavar="ENVIRONMENT")
        parser.add_argument("--set", metavar="NAME", help="Add or change the window of this name.")
        parser.add_argument("--remove", metavar="NAME", help="Take the window of this name away.")
        parser.add_argument("--kind", help="allow, or deny, which is the stronger one.")
        parser.add_argument("--starts-at", help="When it first opens by the clock there: 2026-03-01T22:00.")
        parser.add_argument("--timezone", help="Whose clock it is, such as Europe/Berlin.")
        parser.add_argument("--minutes", type=int, help="How long it stays open each time.")
        parser.add_argument("--rrule", help="When it opens again (RFC 5545): FREQ=WEEKLY;BYDAY=MO.")
        parser.add_argument("--user", help="Who does it: an operator of the service.")

    def handle(self, *args: Any, **options: Any) -> None:
        environment = get_environment(service=get_service(options["service"]), slug=options["environment"])
        named, removed = options["set"], options["remove"]
        values = {name: options[name] for name in PARTS if options[name] is not None}
        if named is None and removed is None:
            if values:
                raise Invalid("Name the window that these are of, by --set NAME.")
            self._list(environment)
            return
        if named is not None and removed is not None:
            raise Invalid("Either --set or --remove, not both.")
        if options["user"] is None:
            raise Invalid("Name who does it, by --user.")
        user = get_user(options["user"])
        name = " ".join((named if removed is None else removed).split())
        windows = environment.windows.select_related("environment__service")
        known: Window | None = windows.filter(name=name).first()
        where = f"{environment.service.slug}/{environment.slug}"
        if removed is not None:
            if known is None:
                raise NotFound(f"{where} has no window called {name}.")
            remove_window(window=known, by=user)
            self.stdout.write(f"{where} has no window {name} any more.")
        elif known is not None:
            self._tell(change_window(window=known, by=user, **values))
        else:
            if missing := [each for each in PARTS if each not in values and each != "rrule"]:
                names = ", ".join(f"--{each.replace('_', '-')}" for each in missing)
                raise Invalid(f"{where} has no window called {name}; a new one also needs {names}.")
            self._tell(add_window(environment=environment, name=name, by=user, **values))

    def _list(self, environment: Environment) -> None:
        windows = list(environment.windows.order_by("name"))
        if not windows:
            self.stdout.write(f"{environment.service.slug}/{environment.slug} has no windows: always open.")
        for window in windows:
            self._tell(window)

    def _tell(self, window: Window) -> None:
        fact, now = window.fact(), timezone.now()
        first = f"{window.starts_at} {window.timezone}, {window.minutes} minutes"
        try:
            state = "open" if is_open(fact, now) else "shut"
            openings = next_openings(fact, now, OPENINGS_SHOWN)
        except Invalid as error:
            # Such as a time zone that this machine does not know; then the gate is shut.
            self.stdout.write(f"{window.name}: {window.kind}, cannot be read: {error}")
            return
        self.stdout.write(f"{window.name}: {window.kind}, {state} now. {first}, {window.rrule or 'once'}")
        for opens, shuts in openings:
            self.stdout.write(f"  {moment(opens)} to {moment(shuts)}")
        if not openings:
            self.stdout.write("  does not open again within a year")
