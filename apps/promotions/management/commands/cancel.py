"""Take back that a promotion was asked for."""

from typing import Any

from django.core.management.base import CommandParser

from apps.access.services import get_user
from apps.commands import DomainCommand
from apps.promotions import describe
from apps.promotions.services import cancel_promotion, get_promotion


class Command(DomainCommand):
    help = (
        "End PROMOTION while it waits, as USER: whoever asked for it, or a developer or operator of its "
        "service. What is being deployed goes on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("promotion", metavar="PROMOTION", type=int)
        parser.add_argument("--user", required=True)
        parser.add_argument("--reason", default="", help="Shown with the promotion for ever.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user(options["user"])
        promotion = get_promotion(options["promotion"])
        cancel_promotion(promotion=promotion, user=user, reason=options["reason"])
        self.stdout.write(describe.summary(get_promotion(promotion.pk)))
