"""The way back to what runs now stays open, or people have agreed to give it up.

A release whose migrations the one that runs could not live with can only be mended by a newer one. And what
the database has seen already must leave this release able to run on it.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from apps.gates.facts import Facts, WayBackFact
from apps.gates.parameters import names, whole_number
from apps.gates.rules import approved
from apps.gates.rules.base import Rule
from apps.gates.verdicts import Finding, Verdict


@dataclass(frozen=True)
class Parameters:
    count: int = whole_number(
        default=1, minimum=1, maximum=20, help_text="How many people must agree to a release that is one way."
    )
    groups: tuple[str, ...] = names(
        help_text="Approver groups whose members' word counts for that; without any, every approver's."
    )


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Reversible and forward compatible pass; one way waits for its approvals; unknown is inconclusive.

    Blocked where the database has seen a migration that this release cannot run with.
    """
    back, schema = facts.way_back, facts.schema
    if back is None or schema is None:
        return Finding(
            Verdict.INCONCLUSIVE,
            "It is not known which migrations lie between this release and what runs.",
            who="manage.py reconcile",
        )
    evidence: dict[str, Any] = {"running": back.running, "way_back": _told(back), "schema": _told(schema)}
    who = f"a developer of {facts.service}, by a newer release"
    if schema.level == "one_way":
        return Finding(
            Verdict.BLOCKED,
            f"{facts.release_version} cannot run on the database as {schema.running} has left it: "
            f"{_because(schema)}.",
            evidence,
            who,
        )
    for way, where in (
        (schema, f"{facts.release_version} can run on the database as {schema.running} has left it"),
        (back, f"{back.running} can come back after {facts.release_version}"),
    ):
        if way.level not in {"reversible", "forward_compatible", "one_way"}:
            return Finding(
                Verdict.INCONCLUSIVE,
                f"It is not known whether {where}: {_because(way)}.",
                evidence,
                who=f"a developer of {facts.service}: say way_back in the migration, in a new release"
                if way.migration
                else f"an operator of {facts.service} who knows that database, by an override",
            )
    if back.level == "one_way":
        asked = approved.judge(facts, approved.Parameters(parameters.count, parameters.groups), at)
        return replace(
            asked,
            sentence=f"After it there is no way back to {back.running}: {_because(back)}. {asked.sentence}",
            evidence=evidence | asked.evidence,
        )
    if not back.running:
        return Finding(Verdict.PASS, "Nothing runs there, so there is nothing to come back to.", evidence)
    if back.level == "forward_compatible":
        return Finding(
            Verdict.PASS,
            f"{back.running} can come back after it, on the database as it will be: {_because(back)}.",
            evidence,
        )
    return Finding(
        Verdict.PASS, f"{back.running} can come back after it; its migrations can be undone.", evidence
    )


def _because(way: WayBackFact) -> str:
    return f"{way.migration}: {way.operation}" if way.migration else way.operation


def _told(way: WayBackFact) -> dict[str, str]:
    return {"level": way.level, "migration": way.migration, "operation": way.operation}


RULE = Rule("way_back", Parameters, judge)
