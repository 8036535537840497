"""Let a promotion pass against its gate, agree to that, or end it."""

from typing import Any

from django.core.management.base import CommandParser

from apps.access.services import get_user
from apps.commands import DomainCommand
from apps.errors import NotFound
from apps.gates.rules.base import moment
from apps.promotions import describe
from apps.promotions.models import Override, Promotion
from apps.promotions.overrides import override_promotion, second_override, withdraw_override
from apps.promotions.services import get_promotion


class Command(DomainCommand):
    help = (
        "Let PROMOTION pass against its gate for --minutes, as an operator; --second agrees to what another "
        "operator has given, --withdraw ends it. Without --rule it is against all rules but those that have "
        "to be named, such as not_vetoed. The same twice is safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("promotion", metavar="PROMOTION", type=int)
        parser.add_argument(
            "--rule", action="append", default=[], help="Against this one; repeat for several."
        )
        parser.add_argument("--justification", default="", help="Shown with the promotion for ever.")
        parser.add_argument("--minutes", type=int, default=60, help="How long it counts.")
        parser.add_argument("--user", required=True, help="Who does it: an operator of the service.")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--second", action="store_true", help="Agree to the newest that waits for it.")
        what.add_argument("--withdraw", action="store_true", help="End the newest.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user(options["user"])
        promotion = get_promotion(options["promotion"])
        if options["second"]:
            override = _newest(promotion, seconded_by=None)
            second_override(override=override, user=user)
            self.stdout.write(f"{user.username} seconded override {override.pk} by {override.by.username}.")
        elif options["withdraw"]:
            override = _newest(promotion)
            withdraw_override(override=override, user=user, comment=options["justification"])
            self.stdout.write(f"{user.username} withdrew override {override.pk} by {override.by.username}.")
        else:
            override = override_promotion(
                promotion=promotion,
                user=user,
                justification=options["justification"],
                minutes=options["minutes"],
                rules=options["rule"],
            )
            until = moment(override.expires_at)
            self.stdout.write(f"Override {override.pk} by {user.username} counts until {until}.")
        promotion = get_promotion(promotion.pk)
        self.stdout.write(describe.summary(promotion))
        if promotion.decision:
            self.stdout.write("\n".join(describe.findings(promotion.decision)))


def _newest(promotion: Promotion, **which: Any) -> Override:
    rows = promotion.overrides.filter(withdrawn_at=None, **which).select_related(
        "by", "promotion__environment__service", "promotion__release", "promotion__decision"
    )
    override = rows.order_by("-id").first()
    if override is None:
        raise NotFound(f"Promotion {promotion.pk} has no override for which that could be done.")
    return override
