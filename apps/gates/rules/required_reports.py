"""The named report groups are there, each with complete evidence.

Without it, a build that stopped writing a report would pass for want of failures.
"""

from dataclasses import dataclass
from datetime import datetime

from apps.gates.facts import Facts
from apps.gates.parameters import names, wait_minutes
from apps.gates.rules.base import Rule, build_evidence, not_read_yet, report_evidence
from apps.gates.verdicts import Finding, Verdict


@dataclass(frozen=True)
class Parameters:
    groups: tuple[str, ...] = names(required=True, help_text="Report groups, by name.")
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Inconclusive, never blocked: a report that is missing says nothing either way."""
    if waiting := not_read_yet(facts, at, wait_minutes=parameters.wait_minutes):
        return waiting
    reports = {report.name: report for report in facts.reports}
    missing = [name for name in parameters.groups if name not in reports]
    incomplete = [
        reports[name] for name in parameters.groups if name in reports and not reports[name].complete
    ]
    evidence = {
        "missing": missing,
        "reports": [report_evidence(reports[name]) for name in parameters.groups if name in reports],
    } | (build_evidence(facts.build) if facts.build else {})
    problems = []
    aside = {report.name: report.asserted_by for report in facts.set_aside}
    problems += [
        f"{name} is there only by the word of {aside[name]}, which this policy does not count"
        for name in missing
        if name in aside
    ]
    missing = [name for name in missing if name not in aside]
    if missing:
        problems.append(
            f"{', '.join(missing)} is missing" if len(missing) == 1 else f"{', '.join(missing)} are missing"
        )
    problems += [
        f"{report.name} is not complete ({report.problem or 'no raw file was read'})" for report in incomplete
    ]
    if problems:
        there = ", ".join(sorted(reports)) or "none"
        return Finding(
            Verdict.INCONCLUSIVE,
            f"Required reports: {'; '.join(problems)}. The build has: {there}.",
            evidence,
            who=f"a developer of {facts.service}, by a build that writes them",
        )
    return Finding(
        Verdict.PASS,
        f"All required reports are there and complete: {', '.join(parameters.groups)}.",
        evidence,
    )


RULE = Rule("required_reports", Parameters, judge)
