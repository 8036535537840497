"""Agree to a promotion."""

from typing import Any

from django.core.management.base import CommandParser

from apps.access.services import get_user
from apps.commands import DomainCommand
from apps.promotions import describe
from apps.promotions.services import approve_promotion, get_promotion


class Command(DomainCommand):
    help = "Agree to PROMOTION as USER, an approver of its service who did not ask for it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("promotion", metavar="PROMOTION", type=int)
        parser.add_argument("--user", required=True)
        parser.add_argument("--comment", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user(options["user"])
        promotion = get_promotion(options["promotion"])
        approve_promotion(promotion=promotion, user=user, comment=options["comment"])
        promotion = get_promotion(promotion.pk)
        self.stdout.write(f"{user.username} approved it.")
        self.stdout.write(describe.summary(promotion))
        if promotion.decision:
            self.stdout.write("\n".join(describe.findings(promotion.decision)))
