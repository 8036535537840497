"""By whom, and for how long, the other rules of this policy may be overridden.

Without this rule any operator may override, alone, for as long as the defaults here say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from apps.gates.facts import Facts, OverrideFact
from apps.gates.parameters import whole_number, yes_no
from apps.gates.rules.base import Rule, moment
from apps.gates.verdicts import OPENS, Finding, Verdict

NAME = "override"
# A person has said no to this very release, or its bytes are others: whoever means that has to name it.
BY_NAME_ONLY = frozenset({"bundle_intact", "not_vetoed"})


@dataclass(frozen=True)
class Parameters:
    second_person: bool = yes_no(
        default=False, help_text="Whether another operator must agree to an override before it counts."
    )
    maximum_minutes: int = whole_number(
        default=240,
        minimum=1,
        maximum=60 * 24 * 7,
        help_text="Minutes for which an override may count, from when it was given.",
    )


def ends_at(override: OverrideFact, parameters: Parameters) -> datetime:
    """When it counts no longer: a policy that has become stricter shortens it."""
    return min(override.expires_at, override.at + timedelta(minutes=parameters.maximum_minutes))


def stands(override: OverrideFact, parameters: Parameters, at: datetime) -> bool:
    """Whether it counts now: in its time, by people who are operators still, by as many as are asked for."""
    return _is_open(override, parameters, at) and not _waits(override, parameters)


def _is_open(override: OverrideFact, parameters: Parameters, at: datetime) -> bool:
    return override.counts and at < ends_at(override, parameters)


def _waits(override: OverrideFact, parameters: Parameters) -> bool:
    return parameters.second_person and override.seconded_by is None


def covers(override: OverrideFact, rule: str) -> bool:
    """Whether it speaks of a rule: one that it names, or any that need not be named where it names none."""
    return rule in override.rules or (not override.rules and rule not in BY_NAME_ONLY)


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """What became of each override. Whether one is needed at all is for ``let_pass``, which sees the rest."""
    if not facts.overrides:
        return Finding(Verdict.PASS, "Nobody overrides this gate.")
    standing = [each for each in facts.overrides if stands(each, parameters, at)]
    waiting = [
        each for each in facts.overrides if _is_open(each, parameters, at) and _waits(each, parameters)
    ]
    evidence = {
        "second_person": parameters.second_person,
        "overrides": [
            {
                "override": each.id,
                "rules": list(each.rules),
                "justification": each.justification,
                "by": each.by.username,
                "seconded_by": each.seconded_by.username if each.seconded_by else None,
                "at": each.at.isoformat(),
                "until": ends_at(each, parameters).isoformat(),
                "counts": each in standing,
            }
            for each in facts.overrides
        ],
    }
    sentence = " ".join(_sentence(each, parameters, at) for each in facts.overrides)
    if standing:
        return Finding(Verdict.OVERRIDDEN, sentence, evidence)
    if waiting:
        who = "; ".join(
            f"an operator of {facts.service} other than {each.by.username}: second override {each.id}"
            for each in waiting
        )
        return Finding(Verdict.WAITING_HUMAN, sentence, evidence, who=who)
    return Finding(Verdict.PASS, sentence, evidence)


def _sentence(override: OverrideFact, parameters: Parameters, at: datetime) -> str:
    by, end = override.by.username, ends_at(override, parameters)
    rules = ", ".join(override.rules) or f"all rules but {', '.join(sorted(BY_NAME_ONLY))}"
    if not override.counts:
        return f"The override by {by} counts no longer: somebody who gave it is no operator now."
    if at >= end:
        return f"The override by {by} ended {moment(end)}."
    if _waits(override, parameters):
        return f"The override by {by} of {rules} waits for a second operator: {_word(override)}"
    second = f" and {override.seconded_by.username}" if override.seconded_by else ""
    return f"Overridden by {by}{second} until {moment(end)} ({rules}): {_word(override)}"


def _word(override: OverrideFact) -> str:
    return f"{override.justification.rstrip('.')}."


def let_pass(
    findings: Sequence[Finding], limits: Sequence[Parameters], facts: Facts, at: datetime
) -> list[Finding]:
    """The findings as overrides leave them. Those that one covers say what they said, as overridden.

    ``limits`` are the parameters of each time that the policy has this rule; an override has to keep to all.
    """
    standing = [each for each in facts.overrides if all(stands(each, limit, at) for limit in limits)]
    open_ones = [each for each in facts.overrides if all(_is_open(each, limit, at) for limit in limits)]
    left: list[Finding] = []
    needed = {Verdict.OVERRIDDEN: False, Verdict.WAITING_HUMAN: False}
    for finding in findings:
        if finding.rule != NAME and finding.verdict not in OPENS:
            by = next((each for each in standing if covers(each, finding.rule)), None)
            if by is not None:
                needed[Verdict.OVERRIDDEN] = True
                finding = _overridden(finding, by)
            elif any(covers(each, finding.rule) for each in open_ones):
                needed[Verdict.WAITING_HUMAN] = True
        left.append(finding)
    return [
        replace(finding, verdict=Verdict.PASS, who="")
        if finding.rule == NAME and not needed.get(finding.verdict, True)
        else finding
        for finding in left
    ]


def _overridden(finding: Finding, by: OverrideFact) -> Finding:
    was = {"override": by.id, "by": by.by.username, "verdict": str(finding.verdict), "who": finding.who}
    return replace(
        finding,
        verdict=Verdict.OVERRIDDEN,
        evidence=finding.evidence | {"overridden": was},
        who="",
        earliest=None,
    )


RULE = Rule(NAME, Parameters, judge)
