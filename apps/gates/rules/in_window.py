"""The environment is open: none of its deny windows is, and one of its allow windows where it has any."""

from datetime import datetime
from typing import Any

from apps.errors import Invalid
from apps.gates import windows
from apps.gates.facts import Facts, WindowFact
from apps.gates.parameters import NoParameters
from apps.gates.rules.base import Rule, moment
from apps.gates.verdicts import Finding, Verdict


def judge(facts: Facts, parameters: NoParameters, at: datetime) -> Finding:
    """Waits for the next opening; blocked where there is none within a year."""
    who = f"an operator of {facts.service}, who may change the windows of {facts.environment}"
    if not facts.windows:
        return Finding(Verdict.PASS, f"{facts.environment} has no windows, so it is open at all times.")
    broken: dict[int, str] = {}
    evidence: dict[str, Any] = {"windows": [_evidence(each, at, broken) for each in facts.windows]}
    if broken:
        first = next(each for each in facts.windows if each.id in broken)
        sentence = f"The window {first.name} cannot be read: {broken[first.id]}"
        return Finding(Verdict.INCONCLUSIVE, sentence, evidence, who)
    change = windows.next_change(facts.windows, at)
    if windows.is_permitted(facts.windows, at):
        evidence["shuts_at"] = change.isoformat() if change else None
        until = f" until {moment(change)}" if change else ""
        return Finding(Verdict.PASS, f"{facts.environment} is open{until}.", evidence)
    evidence["opens_at"] = change.isoformat() if change else None
    denies = [each for each in facts.windows if each.kind == windows.DENY and windows.is_open(each, at)]
    if denies:
        why = f"{facts.environment} is closed by {_names(denies)}"
    else:
        allows = [each for each in facts.windows if each.kind == windows.ALLOW]
        why = f"{facts.environment} is open only in {_names(allows)}"
    if change is None:
        return Finding(Verdict.BLOCKED, f"{why}; it does not open again within a year.", evidence, who)
    sentence = f"{why}; it opens at {moment(change)}."
    return Finding(Verdict.WAITING_TIME, sentence, evidence, who, earliest=change)


def _names(found: list[WindowFact]) -> str:
    return " and ".join(each.name for each in found)


def _evidence(window: WindowFact, at: datetime, broken: dict[int, str]) -> dict[str, Any]:
    try:
        is_open = windows.is_open(window, at)
    except Invalid as error:
        broken[window.id] = str(error)
        is_open = None
    return {"window": window.id, "name": window.name, "kind": window.kind, "open": is_open}


RULE = Rule("in_window", NoParameters, judge)
