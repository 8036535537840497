"""Ask for a release to be brought to an environment."""

import sys
import time
from typing import Any

from django.core.management.base import CommandParser

from apps.access.services import get_user
from apps.catalog.services import get_environment, get_service
from apps.commands import DomainCommand
from apps.gates.verdicts import Verdict
from apps.promotions import describe
from apps.promotions.models import Promotion
from apps.promotions.services import get_promotion, request_promotion
from apps.releases.services import find_release

# Waiting does not mend these: a person has to change something first.
HOPELESS = frozenset({Verdict.BLOCKED, Verdict.INCONCLUSIVE})


class WaitingCommand(DomainCommand):
    """Asks for a promotion, shows how it goes, and ends with its exit code."""

    shown = ""  # why it waits, as last printed

    def add_waiting(self, parser: CommandParser) -> None:
        parser.add_argument("--wait", action="store_true", help="Until it is deployed or cannot be.")
        parser.add_argument("--timeout", type=float, default=3600.0, help="Seconds to wait at most.")
        parser.add_argument("--poll", type=float, default=1.0, help="Seconds between looks.")

    def follow(self, promotion: Promotion, options: dict[str, Any]) -> None:
        promotion = self._show(promotion.pk, None)
        if options["wait"]:
            promotion = self._wait(promotion, options["timeout"], options["poll"])
        if code := describe.exit_code(promotion):
            sys.exit(code)

    def _wait(self, promotion: Promotion, timeout: float, poll: float) -> Promotion:
        deadline = time.monotonic() + timeout
        while promotion.status not in Promotion.FINAL and time.monotonic() < deadline:
            decision = promotion.decision
            pending = promotion.status == Promotion.Status.PENDING
            if pending and decision is not None and decision.verdict in HOPELESS:
                break
            time.sleep(poll)
            promotion = self._show(promotion.pk, promotion)
        return promotion

    def _show(self, pk: int, before: Promotion | None) -> Promotion:
        promotion = get_promotion(pk)
        state = (promotion.status, promotion.decision_id, describe.waits(promotion))
        if before is None or state != (before.status, before.decision_id, self.shown):
            self.stdout.write(describe.summary(promotion))
            if promotion.decision and (before is None or before.decision_id != promotion.decision_id):
                self.stdout.write("\n".join(describe.findings(promotion.decision)))
            if state[2]:
                self.stdout.write(state[2])
            self.stdout.flush()
        self.shown = state[2]
        return promotion


class Command(WaitingCommand):
    help = (
        "Ask for RELEASE (a version, a digest or its beginning, or an id) to be brought to ENVIRONMENT. "
        "Exits 0 when it passes, 10 blocked, 11 waits for a person, 12 for time, 13 inconclusive, "
        "14 waits for evidence, 1 on an error. Asking again is safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("release", metavar="RELEASE")
        parser.add_argument("environment", metavar="ENVIRONMENT")
        parser.add_argument("--service", required=True)
        parser.add_argument("--user", required=True, help="Who asks: a developer or operator of the service.")
        self.add_waiting(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        service = get_service(options["service"])
        promotion = request_promotion(
            release=find_release(service=service, name=options["release"]),
            environment=get_environment(service=service, slug=options["environment"]),
            requested_by=get_user(options["user"]),
        )
        self.follow(promotion, options)
