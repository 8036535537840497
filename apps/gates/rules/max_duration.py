"""The tests took at most so long, together.

It is the sum of what the tests took, which is more than the build where they ran side by side.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.gates.facts import Facts
from apps.gates.parameters import names, wait_minutes, whole_number
from apps.gates.rules.base import (
    Rule,
    build_evidence,
    counted_reports,
    not_read_yet,
    report_evidence,
    uncountable,
)
from apps.gates.verdicts import Finding, Verdict


@dataclass(frozen=True)
class Parameters:
    seconds: int = whole_number(
        default=3600, minimum=1, help_text="Seconds that the tests may take together."
    )
    groups: tuple[str, ...] = names(help_text="Report groups that count; without any, every test report.")
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Reports are taken together, and to the nanosecond, so that no rounding lets one through."""
    if waiting := not_read_yet(facts, at, wait_minutes=parameters.wait_minutes):
        return waiting
    reports = counted_reports(facts, parameters.groups)
    durations = [report.duration_ns for report in reports]
    evidence: dict[str, Any] = {
        "seconds": parameters.seconds,
        "reports": [{**report_evidence(report), "duration_ns": report.duration_ns} for report in reports],
    } | (build_evidence(facts.build) if facts.build else {})
    who = f"a developer of {facts.service}"
    if finding := uncountable(reports, parameters.groups, noun="durations", evidence=evidence, who=who):
        return finding
    if None in durations:
        return Finding(Verdict.INCONCLUSIVE, "It is not known how long the tests took.", evidence, who)
    took = sum(each or 0 for each in durations)
    told = f"The tests took {_seconds(took)}"
    if took > parameters.seconds * 1_000_000_000:
        return Finding(
            Verdict.BLOCKED, f"{told}, and at most {parameters.seconds:,} s are accepted.", evidence, who
        )
    return Finding(Verdict.PASS, f"{told}; at most {parameters.seconds:,} s are accepted.", evidence)


def _seconds(duration_ns: int) -> str:
    # Rounded up, so that no sentence says that 60.0 s are more than 60.
    return f"{-(-duration_ns // 100_000_000) / 10:,.1f} s"


RULE = Rule("max_duration", Parameters, judge)
