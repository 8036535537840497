"""Refuse a promotion."""

from typing import Any

from django.core.management.base import CommandParser

from apps.access.services import get_user
from apps.commands import DomainCommand
from apps.promotions import describe
from apps.promotions.services import get_promotion, reject_promotion


class Command(DomainCommand):
    help = "Refuse PROMOTION as USER, an approver of its service who did not ask for it. That is its end."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("promotion", metavar="PROMOTION", type=int)
        parser.add_argument("--user", required=True)
        parser.add_argument("--comment", default="", help="What whoever asked for it reads.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user(options["user"])
        promotion = get_promotion(options["promotion"])
        reject_promotion(promotion=promotion, user=user, comment=options["comment"])
        self.stdout.write(describe.summary(get_promotion(promotion.pk)))
