"""Say why a release is not in an environment."""

import json
import sys
from typing import Any

from django.core.management.base import CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from apps.catalog.services import get_environment, get_service
from apps.commands import DomainCommand
from apps.gates.rules.base import moment
from apps.gates.verdicts import EXIT_CODES, Verdict
from apps.promotions import describe
from apps.promotions.explanation import Explanation, explain_absence
from apps.promotions.models import Promotion
from apps.releases.services import find_release


class Command(DomainCommand):
    help = (
        "Say why SERVICE is not in ENVIRONMENT: of the release that was last asked for there, or else of the "
        "newest one, everything that is unmet with the worst first, who can act, and the earliest time at "
        "which it could pass. If nobody has asked, what it would take. Nothing is written. Ends with 0 if "
        "the release is there, on its way or its gate is open, 10 blocked, 11 if a person has to act, 12 "
        "for time, 13 inconclusive, 14 for evidence, 1 on an error."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service", metavar="SERVICE")
        parser.add_argument("environment", metavar="ENVIRONMENT")
        parser.add_argument(
            "--release", help="Another release: a version, a digest or its beginning, or an id."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        service = get_service(options["service"])
        environment = get_environment(service=service, slug=options["environment"])
        name = options["release"]
        release = find_release(service=service, name=name) if name else None
        explanation = explain_absence(environment=environment, release=release)
        if options["json"]:
            self.stdout.write(json.dumps(explanation.to_json(), cls=DjangoJSONEncoder, ensure_ascii=False))
        else:
            self.stdout.write("\n".join(as_text(explanation)))
        if code := exit_code(explanation):
            sys.exit(code)


def as_text(explanation: Explanation) -> list[str]:
    """What, the answer, then what is unmet with who can act, then what is met, in one line each."""
    running, promotion = explanation.running, explanation.promotion
    where = f"{explanation.environment.service.slug}/{explanation.environment.slug}"
    now = (
        f"{running.release.version} since {moment(running.since)}"
        if running
        else describe.unknown(explanation.environment) or "nothing"
    )
    asked = f"promotion {promotion.pk} is {promotion.status}" if promotion else "nobody has asked"
    lines = [
        f"{explanation.release.version} → {where}: {asked}",
        f"Runs there now: {now}",
        explanation.answer,
    ]
    overridden = [finding for finding in explanation.met if finding.verdict == Verdict.OVERRIDDEN]
    for finding in (*explanation.unmet, *overridden):
        lines.append(f"  {finding.verdict.label:<20}  {finding.rule}: {finding.sentence}")
        if finding.who:
            lines.append(f"  {'':<20}  → {finding.who}")
        if finding.earliest:
            lines.append(f"  {'':<20}  not before {moment(finding.earliest)}")
    if met := [finding.rule for finding in explanation.met if finding not in overridden]:
        lines.append(f"  met: {', '.join(met)}")
    return lines


def exit_code(explanation: Explanation) -> int:
    """0 when nothing has to happen for it any more, and else the code of its verdict."""
    promotion = explanation.promotion
    under_way = promotion is not None and promotion.status in Promotion.UNDER_WAY
    if explanation.is_there or under_way or explanation.verdict is None:
        return 0
    return EXIT_CODES[explanation.verdict]
