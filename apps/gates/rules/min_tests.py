"""At least so many tests ran, and not many fewer than of what runs in the environment now.

Skipped tests did not run. Without it, a build that lost its tests passes for want of failures.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.gates.facts import Facts, ReportFact
from apps.gates.parameters import names, wait_minutes, whole_number
from apps.gates.rules.base import (
    Rule,
    build_evidence,
    counted_reports,
    incomparable,
    not_read_yet,
    report_evidence,
    running_baseline,
    uncountable,
)
from apps.gates.verdicts import Finding, Verdict

ANY_DROP = 100  # percent: a drop to nothing, so nothing is compared


@dataclass(frozen=True)
class Parameters:
    minimum: int = whole_number(default=1, minimum=1, help_text="Tests that must have run, in all.")
    maximum_drop: int = whole_number(
        default=10,
        maximum=ANY_DROP,
        help_text="Percent of the tests of what runs in the environment that may be missing; with 100 they "
        "are not compared.",
    )
    groups: tuple[str, ...] = names(help_text="Report groups that count; without any, every test report.")
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Reports are taken together. Of unknown outcomes it is not known whether they ran; they may not tip it.

    Where nothing runs, and where what runs has no such report, there is nothing to drop from.
    """
    if waiting := not_read_yet(facts, at, wait_minutes=parameters.wait_minutes):
        return waiting
    reports = counted_reports(facts, parameters.groups)
    ran, unknown = _ran(reports), sum(report.unknown for report in reports)
    baseline = running_baseline(facts, parameters.groups)
    # Of two ways to see what ran there, the one that asks for more.
    before = _ran(baseline.reports) + sum(report.unknown for report in baseline.reports)
    evidence: dict[str, Any] = {
        "minimum": parameters.minimum,
        "maximum_drop": parameters.maximum_drop,
        "ran": ran,
        "unknown": unknown,
        "reports": [report_evidence(report) for report in reports],
        "running": baseline.evidence and {**baseline.evidence, "ran": before},
    } | (build_evidence(facts.build) if facts.build else {})
    who = f"a developer of {facts.service}"
    if finding := uncountable(reports, parameters.groups, noun="tests", evidence=evidence, who=who):
        return finding
    counts = f"{_tests(ran)} ran"
    enough = f"at least {parameters.minimum:,} must"
    if ran + unknown < parameters.minimum:
        return Finding(Verdict.BLOCKED, f"{counts}, and {enough}.", evidence, who)
    compared = parameters.maximum_drop < ANY_DROP
    if compared and (
        finding := incomparable(facts, baseline, evidence=evidence, parameter="maximum_drop", off=ANY_DROP)
    ):
        return finding
    # In whole tests, so that no rounding lets one through.
    needed = before * (100 - parameters.maximum_drop) if compared else 0
    drop = f"{baseline.name} had {before:,}, of which at most {parameters.maximum_drop} % may be missing"
    if (ran + unknown) * 100 < needed:
        return Finding(Verdict.BLOCKED, f"{counts}, and {drop}.", evidence, who)
    if ran < parameters.minimum or ran * 100 < needed:
        why = f"{counts}, and of {unknown:,} it is unknown"
        asked = enough if ran < parameters.minimum else drop
        return Finding(Verdict.INCONCLUSIVE, f"{why}; {asked}.", evidence, who)
    more = "" if not compared else f" {baseline.absent or drop}."
    return Finding(Verdict.PASS, f"{counts}; {enough}.{more}", evidence)


def _ran(reports: Iterable[ReportFact]) -> int:
    return sum(report.passed + report.failed + report.errors for report in reports)


def _tests(number: int) -> str:
    return "1 test" if number == 1 else f"{number:,} tests"


RULE = Rule("min_tests", Parameters, judge)
