"""What a gate can say, and what a rule finds."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models


class Verdict(models.TextChoices):
    PASS = "pass"
    BLOCKED = "blocked"
    INCONCLUSIVE = "inconclusive"
    WAITING_HUMAN = "waiting_human", "waiting for a person"
    WAITING_TIME = "waiting_time", "waiting for time"
    WAITING_EVIDENCE = "waiting_evidence", "waiting for evidence"
    OVERRIDDEN = "overridden"


# The worst finding wins.
WORST_FIRST = (
    Verdict.BLOCKED,
    Verdict.INCONCLUSIVE,
    Verdict.WAITING_HUMAN,
    Verdict.WAITING_EVIDENCE,
    Verdict.WAITING_TIME,
    Verdict.OVERRIDDEN,
    Verdict.PASS,
)
# What lets a release through.
OPENS = frozenset({Verdict.PASS, Verdict.OVERRIDDEN})

# What commands and the Jenkins client exit with.
EXIT_CODES = {
    Verdict.PASS: 0,
    Verdict.OVERRIDDEN: 0,
    Verdict.BLOCKED: 10,
    Verdict.WAITING_HUMAN: 11,
    Verdict.WAITING_TIME: 12,
    Verdict.INCONCLUSIVE: 13,
    Verdict.WAITING_EVIDENCE: 14,
}


@dataclass(frozen=True)
class Finding:
    """What one rule says: a verdict, one sentence, and what supports it."""

    verdict: Verdict
    sentence: str
    # Ids, numbers and links; plain JSON values.
    evidence: dict[str, Any] = field(default_factory=dict)
    # Who can supply what is missing, such as "an approver of lockkeeper".
    who: str = ""
    # When it could pass at the earliest if nothing but time went by; None where time alone mends nothing.
    earliest: datetime | None = None
    # How long it still takes once that has come, such as a soak; for the outlook, and kept nowhere.
    takes: timedelta = timedelta(0)
    # Set by apps.gates.evaluate.judge.
    rule: str = ""

    def to_json(self) -> dict[str, Any]:
        """As Decision.findings holds it."""
        return {
            "rule": self.rule,
            "verdict": str(self.verdict),
            "sentence": self.sentence,
            "evidence": self.evidence,
            "who": self.who,
            "earliest": self.earliest.isoformat() if self.earliest else None,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """What to_json wrote; findings from before there were earliest times have none."""
        earliest = data.get("earliest")
        return cls(
            verdict=Verdict(data["verdict"]),
            sentence=data["sentence"],
            evidence=data.get("evidence") or {},
            who=data.get("who") or "",
            earliest=datetime.fromisoformat(earliest) if earliest else None,
            rule=data["rule"],
        )


def by_importance(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first; those of one verdict stay in the policy's order."""
    order = {verdict: position for position, verdict in enumerate(WORST_FIRST)}
    return sorted(findings, key=lambda finding: order.get(finding.verdict, len(order)))


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that wins. No finding at all is inconclusive: a gate without rules is shut."""
    found = set(verdicts)
    return next((verdict for verdict in WORST_FIRST if verdict in found), Verdict.INCONCLUSIVE)
