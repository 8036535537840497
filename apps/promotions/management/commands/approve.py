"""Agree to a promotion, or take that back."""

from typing import Any

from django.core.management.base import CommandParser

from apps.access.services import get_user
from apps.commands import DomainCommand
from apps.promotions import describe
from apps.promotions.services import approve_promotion, get_promotion, withdraw_approval


class Command(DomainCommand):
    help = (
        "Agree to PROMOTION as USER, an approver of its service who did not ask for it; --withdraw takes "
        "that back."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("promotion", metavar="PROMOTION", type=int)
        parser.add_argument("--user", required=True)
        parser.add_argument("--comment", default="")
        parser.add_argument("--withdraw", action="store_true", help="What has begun goes on all the same.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user(options["user"])
        promotion = get_promotion(options["promotion"])
        speak = withdraw_approval if options["withdraw"] else approve_promotion
        speak(promotion=promotion, user=user, comment=options["comment"])
        promotion = get_promotion(promotion.pk)
        done = "no longer approves it" if options["withdraw"] else "approved it"
        self.stdout.write(f"{user.username} {done}.")
        self.stdout.write(describe.summary(promotion))
        if promotion.decision:
            self.stdout.write("\n".join(describe.findings(promotion.decision)))
