"""Every report of the build was read to the end, and its three counts are explained.

CodeBuild shows at most 500 cases of a report, so the counts come from the raw files in S3.
"""

from dataclasses import dataclass
from datetime import datetime

from apps.gates.facts import Facts
from apps.gates.parameters import wait_minutes
from apps.gates.rules.base import Rule, build_evidence, not_read_yet, report_evidence
from apps.gates.verdicts import Finding, Verdict


@dataclass(frozen=True)
class Parameters:
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Inconclusive when a report is incomplete, and when there is none."""
    if waiting := not_read_yet(facts, at, wait_minutes=parameters.wait_minutes):
        return waiting
    evidence = build_evidence(facts.build) if facts.build else {}
    who = f"a developer of {facts.service}, by a new build"
    if not facts.reports:
        return Finding(Verdict.INCONCLUSIVE, "The build left no report.", evidence, who)
    incomplete = [report for report in facts.reports if not report.complete]
    if incomplete:
        first = incomplete[0]
        more = f" and {len(incomplete) - 1} more" if len(incomplete) > 1 else ""
        return Finding(
            Verdict.INCONCLUSIVE,
            f"Evidence is not complete: {first.name}{more} ({first.problem or 'no raw file was read'}).",
            evidence | {"reports": [report_evidence(report) for report in incomplete]},
            who,
        )
    cases = sum(report.parsed or 0 for report in facts.reports)
    return Finding(
        Verdict.PASS,
        f"All {len(facts.reports)} reports were read to the end, {cases:,} cases."
        if len(facts.reports) > 1
        else f"The report {facts.reports[0].name} was read to the end, {cases:,} cases.",
        evidence | {"reports": [report_evidence(report) for report in facts.reports]},
    )


RULE = Rule("evidence_complete", Parameters, judge)
