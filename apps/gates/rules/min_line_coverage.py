"""The tests ran at least so many of a hundred lines, and not many fewer than those of what runs there now."""

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

KIND = "CODE_COVERAGE"
ANY_DROP = 100  # percentage points: a drop to nothing, so nothing is compared


@dataclass(frozen=True)
class Parameters:
    minimum: int = whole_number(
        default=80, maximum=100, help_text="Percent of the lines that tests must have run."
    )
    maximum_drop: int = whole_number(
        default=1,
        maximum=ANY_DROP,
        help_text="Percentage points that it may be below what runs in the environment; with 100 they are "
        "not compared.",
    )
    groups: tuple[str, ...] = names(help_text="Report groups that count; without any, every coverage report.")
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Lines of all reports are taken together, and compared whole, so that no rounding lets a share through.

    Where nothing runs, and where what runs has no such report, there is nothing to drop from.
    """
    if waiting := not_read_yet(facts, at, wait_minutes=parameters.wait_minutes):
        return waiting
    reports = counted_reports(facts, parameters.groups, kind=KIND)
    covered, total = _lines(reports)
    baseline = running_baseline(facts, parameters.groups, kind=KIND)
    covered_before, total_before = _lines(baseline.reports)
    evidence: dict[str, Any] = {
        "minimum": parameters.minimum,
        "maximum_drop": parameters.maximum_drop,
        "lines_covered": covered,
        "lines_total": total,
        "reports": [report_evidence(report) for report in reports],
        "running": baseline.evidence
        and {**baseline.evidence, "lines_covered": covered_before, "lines_total": total_before},
    } | (build_evidence(facts.build) if facts.build else {})
    who = f"a developer of {facts.service}"
    if finding := uncountable(
        reports, parameters.groups, noun="lines", evidence=evidence, who=who, what="coverage report"
    ):
        return finding
    if not total:
        return Finding(Verdict.INCONCLUSIVE, "A share of no lines means nothing.", evidence, who)
    share = f"Tests ran {_percent(covered, total)} of the lines ({covered:,} of {total:,})"
    enough = f"at least {parameters.minimum} % must be"
    if covered * 100 < parameters.minimum * total:
        return Finding(Verdict.BLOCKED, f"{share}, and {enough}.", evidence, who)
    if parameters.maximum_drop >= ANY_DROP:
        return Finding(Verdict.PASS, f"{share}; {enough}.", evidence)
    if finding := incomparable(facts, baseline, evidence=evidence, parameter="maximum_drop", off=ANY_DROP):
        return finding
    if not total_before:
        absent = baseline.absent or f"{baseline.name} has no line to compare with"
        return Finding(Verdict.PASS, f"{share}; {enough}. {absent}.", evidence)
    points = "1 point" if parameters.maximum_drop == 1 else f"{parameters.maximum_drop} points"
    drop = f"{baseline.name} has {_percent(covered_before, total_before)}; it may be {points} below that"
    if 100 * covered * total_before < (100 * covered_before - parameters.maximum_drop * total_before) * total:
        return Finding(Verdict.BLOCKED, f"{share}, and {drop}.", evidence, who)
    return Finding(Verdict.PASS, f"{share}; {enough}. {drop}.", evidence)


def _lines(reports: Iterable[ReportFact]) -> tuple[int, int]:
    counted = [(report.lines_covered or 0, report.lines_total or 0) for report in reports]
    return sum(covered for covered, _ in counted), sum(total for _, total in counted)


def _percent(covered: int, total: int) -> str:
    # Rounded down, so that 100 % means every line.
    return f"{covered * 10_000 // total / 100:.2f} %"


RULE = Rule("min_line_coverage", Parameters, judge)
