"""At least so many of a hundred executed tests passed. Skipped ones were not executed.

Failures of quarantined tests can be excused, as many as the policy says: they are left out, as if skipped.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.gates.facts import Facts
from apps.gates.parameters import excuse_quarantined, names, wait_minutes, whole_number
from apps.gates.rules.base import (
    Rule,
    build_evidence,
    counted_reports,
    excused,
    not_read_yet,
    pruned,
    report_evidence,
    uncountable,
)
from apps.gates.verdicts import Finding, Verdict


@dataclass(frozen=True)
class Parameters:
    minimum: int = whole_number(
        default=100, maximum=100, help_text="Percent of the executed tests that must have passed."
    )
    groups: tuple[str, ...] = names(help_text="Report groups that count; without any, every test report.")
    excuse_quarantined: int = excuse_quarantined()
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Counted in whole tests, so that no rounding lets one through; unknown outcomes may not tip it."""
    if waiting := not_read_yet(facts, at, wait_minutes=parameters.wait_minutes):
        return waiting
    reports = counted_reports(facts, parameters.groups)
    passed = sum(report.passed for report in reports)
    pardon = excused(facts, reports, limit=parameters.excuse_quarantined, at=at)
    executed = passed + sum(report.failed + report.errors for report in reports) - len(pardon)
    unknown = sum(report.unknown for report in reports)
    evidence: dict[str, Any] = {
        "minimum": parameters.minimum,
        "passed": passed,
        "executed": executed,
        "unknown": unknown,
        "reports": [report_evidence(report) for report in reports],
    } | (build_evidence(facts.build) if facts.build else {})
    evidence |= pardon.evidence
    who = f"a developer of {facts.service}"
    if finding := uncountable(reports, parameters.groups, noun="tests", evidence=evidence, who=who):
        return finding
    counts = f"{passed:,} of {executed:,} executed tests passed"
    needed = parameters.minimum * (executed + unknown)
    if executed and passed * 100 >= needed:
        return Finding(
            Verdict.PASS, f"{counts}; at least {parameters.minimum} % must.{pardon.sentence}", evidence
        )
    if pardon.unknown and passed * 100 >= needed - parameters.minimum * pardon.unknown:
        return pruned(reports, evidence=evidence, who=f"{who}, by a new build")
    if (passed + unknown) * 100 < needed:
        return Finding(
            Verdict.BLOCKED,
            f"{counts}, and at least {parameters.minimum} % must.{pardon.sentence}",
            evidence,
            who,
        )
    why = f"the outcome of {unknown:,} is unknown" if unknown else "a rate of none means nothing"
    return Finding(
        Verdict.INCONCLUSIVE,
        f"{counts}, and {why}; at least {parameters.minimum} % must.{pardon.sentence}",
        evidence,
        who,
    )


RULE = Rule("min_pass_rate", Parameters, judge)
