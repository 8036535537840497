"""When a gate could open: soak, windows and approvals looked at together, by judging the same facts later."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from apps.gates.evaluate import in_force, judge
from apps.gates.facts import Facts
from apps.gates.rules import override
from apps.gates.verdicts import OPENS, Finding, Verdict, by_importance

# Each round moves to the next moment that some rule names, so this many windows and soaks may alternate.
ROUNDS = 32
# What somebody or something can still supply; the rest of what has no earliest time needs another release.
SUPPLIED = frozenset({Verdict.WAITING_HUMAN, Verdict.WAITING_EVIDENCE})


@dataclass(frozen=True)
class Outlook:
    """When a release could pass, if its facts stay as they are."""

    # It passes then by itself; None while a person or evidence is missing, or something else is wrong.
    earliest: datetime | None
    # Nobody can make it pass sooner: the same moment, supposing that people and evidence come in time.
    # None where that would not be enough.
    not_before: datetime | None
    # What would be unmet by then, and is met now, such as evidence that has grown too old.
    by_then: tuple[Finding, ...] = ()


def look_ahead(*, rules: Sequence[dict[str, Any]], facts: Facts, at: datetime) -> Outlook:
    """Search the first moment, from ``at`` on, at which every rule that time can satisfy is satisfied.

    A rule names the earliest time at which it could pass by itself; that of the latest is where all are
    judged again, since a window may have closed until a soak is over. What people or evidence have to bring
    may take its time after that, as a soak does: the search begins where the longest of these could end.
    """
    if not rules:
        return Outlook(earliest=None, not_before=None)
    entries = in_force(rules, facts)
    _, now = judge(rules=entries, facts=facts, at=at)
    supplied = [entry for entry, finding in zip(entries, now, strict=True) if _can_be_supplied(finding)]
    timed = [entry for entry in entries if entry not in supplied]
    if any(entry.get("rule") == override.NAME for entry in supplied):
        # Whoever waits for time does not wait for a second person: without that the override is none.
        facts = replace(facts, overrides=())
    unmet_now = {finding.rule for finding in now if finding.verdict not in OPENS}
    takes = (finding.takes for entry, finding in zip(entries, now, strict=True) if entry in supplied)
    moment, unmet = _search(timed, facts, at + max(takes, default=timedelta(0)))
    by_then = tuple(by_importance(finding for finding in unmet if finding.rule not in unmet_now))
    return Outlook(earliest=None if supplied else moment, not_before=moment, by_then=by_then)


def _search(
    rules: Sequence[dict[str, Any]], facts: Facts, at: datetime
) -> tuple[datetime | None, list[Finding]]:
    """The moment, or None and what stood against it where the search ended."""
    for _ in range(ROUNDS):
        unmet = _unmet(rules, facts, at) if rules else []
        if not unmet:
            return at, []
        times = [finding.earliest for finding in unmet if finding.earliest is not None]
        later = max(times, default=at)
        # A rule that names no later time will not change its mind.
        if len(times) < len(unmet) or later <= at:
            break
        at = later
    return None, unmet


def _unmet(rules: Sequence[dict[str, Any]], facts: Facts, at: datetime) -> list[Finding]:
    verdict, findings = judge(rules=rules, facts=facts, at=at)
    return [] if verdict in OPENS else [finding for finding in findings if finding.verdict not in OPENS]


def _can_be_supplied(finding: Finding) -> bool:
    return finding.earliest is None and finding.verdict in SUPPLIED
