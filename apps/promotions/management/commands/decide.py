"""Say whether a promotion may rise, and why."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from apps.commands import DomainCommand
from apps.gates.verdicts import EXIT_CODES, Verdict
from apps.promotions import describe
from apps.promotions.services import evaluate_promotion, get_promotion


class Command(DomainCommand):
    help = (
        "Judge PROMOTION as the evidence stands now and print every finding (its last decision, if it is no "
        "longer pending). Exits by the verdict: 0 pass, 10 blocked, 11 waits for a person, 12 for time, "
        "13 inconclusive, 14 waits for evidence, 1 on an error."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("promotion", metavar="PROMOTION", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        promotion = get_promotion(options["promotion"])
        decision = evaluate_promotion(promotion=promotion)
        self.stdout.write(describe.summary(promotion))
        self.stdout.write("\n".join(describe.findings(decision)))
        if waits := describe.waits(promotion):
            self.stdout.write(waits)
        if code := EXIT_CODES[Verdict(decision.verdict)]:
            sys.exit(code)
