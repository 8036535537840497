"""Judge a stored decision again."""

import json
import sys
from typing import Any

from django.core.management.base import CommandParser

from apps.commands import DomainCommand
from apps.gates.replay import Replay, replay_decision


class Command(DomainCommand):
    help = (
        "Judge DECISION again from its stored facts, its policy version and its time of evaluation, and "
        "check facts, policy and verdict against the ledger. Nothing is written. Ends with 0 if every "
        "verdict is the same, with 1 if any differs or the ledger contradicts (each difference is printed), "
        "with 2 if it could not be judged again. Run verify_ledger too: only a whole ledger proves anything."
    )
    # 1 says that the decision does not stand; that nobody could tell must not.
    failure_code = 2

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("decision", metavar="DECISION", type=int, help="a decision's id")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        replay = replay_decision(pk=options["decision"])
        self.stdout.write(as_json(replay) if options["json"] else as_text(replay))
        if not replay.same:
            sys.exit(1)


def as_text(replay: Replay) -> str:
    decision = replay.decision
    where = f"{decision.environment.service.slug}/{decision.environment.slug}"
    lines = [
        f"Decision {decision.pk}: {decision.release} → {where}, policy v{decision.policy.version}",
        f"Judged at {decision.evaluated_at:%Y-%m-%d %H:%M:%S} UTC.",
        f"{'Same' if replay.same else 'DIFFERS'}: it was {decision.verdict}, and is {replay.verdict}.",
        *replay.differences,
    ]
    if replay.reworded:
        lines += ["This version says the same in other words:", *replay.reworded]
    if replay.unproven:
        lines += ["Not proven:", *(f"  {each}" for each in replay.unproven)]
    return "\n".join(lines)


def as_json(replay: Replay) -> str:
    return json.dumps(
        {
            "decision": replay.decision.pk,
            "same": replay.same,
            "verdict_then": replay.decision.verdict,
            "verdict_now": replay.verdict,
            "evaluated_at": replay.decision.evaluated_at.isoformat(),
            "policy_version": replay.decision.policy.version,
            "differences": replay.differences,
            "reworded": replay.reworded,
            "unproven": replay.unproven,
            "findings": [finding.to_json() for finding in replay.findings],
        },
        ensure_ascii=False,
    )
