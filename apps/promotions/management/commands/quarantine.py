"""Quarantine a test case, or lift its quarantine."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from apps.access.services import get_user
from apps.builds.models import LONGEST_QUARANTINE, TestCase
from apps.commands import DomainCommand
from apps.errors import Invalid, NotFound
from apps.promotions.quarantine import lift_quarantine, quarantine_case


class Command(DomainCommand):
    help = (
        "Quarantine the test case CASE (its id, as manage.py flaky prints it) for some days, as USER, an "
        "approver or operator of its service; or end its quarantine with --lift. Policies say how many "
        "failures of quarantined cases they excuse."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("case", metavar="CASE", type=int)
        parser.add_argument("--user", required=True, help="Whose word it is.")
        parser.add_argument("--reason", default="", help="Why.")
        parser.add_argument(
            "--days", type=int, metavar="N", help=f"For how long, at most {LONGEST_QUARANTINE.days}."
        )
        parser.add_argument("--lift", action="store_true", help="End the quarantine that is in force.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user(options["user"])
        key = options["case"]
        found = TestCase.objects.select_related("service").filter(pk=key) if abs(key) < 1 << 63 else None
        case = found.first() if found is not None else None
        if case is None:
            raise NotFound(f"There is no test case {key}.")
        if options["lift"]:
            quarantine = case.quarantines.in_force().select_related("case__service").first()
            if quarantine is None:
                raise NotFound(f"{case} is not quarantined.")
            lift_quarantine(quarantine=quarantine, user=user)
            self.stdout.write(f"{case} is not quarantined any more.")
            return
        days = options["days"]
        if days is None or not 0 < days <= LONGEST_QUARANTINE.days:
            raise Invalid(f"--days says for how long: from 1 to {LONGEST_QUARANTINE.days}.")
        until = timezone.now() + timedelta(days=days)
        quarantine = quarantine_case(case=case, user=user, reason=options["reason"], until=until)
        self.stdout.write(f"{case} is quarantined until {until:%Y-%m-%d %H:%M} UTC ({quarantine.pk}).")
