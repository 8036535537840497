"""Whose reports count, beside those that Lockkeeper reads from CodeBuild itself.

A report that was sent to Lockkeeper is its caller's word. Without this rule, and unless it names the caller,
such a report does not count: to the other rules it is as if it were not there.
"""

from dataclasses import dataclass
from datetime import datetime

from apps.gates.facts import Facts, ReportFact
from apps.gates.parameters import names
from apps.gates.rules.base import Rule, build_evidence
from apps.gates.verdicts import Finding, Verdict


@dataclass(frozen=True)
class Parameters:
    callers: tuple[str, ...] = names(
        help_text="Users whose word counts: reports that they sent count like CodeBuild's. None unless named."
    )


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """It never stands against a release by itself: what does not count cannot satisfy the others."""
    counted = [report for report in facts.reports if report.asserted_by]
    evidence = {
        "callers": list(parameters.callers),
        "counted": _told(counted),
        "not_counted": _told(facts.set_aside),
    } | (build_evidence(facts.build) if facts.build else {})
    sentences = []
    if counted:
        sentences.append(f"By the word of {_callers(counted)} it counts: {_names(counted)}.")
    if facts.set_aside:
        sentences.append(
            f"Only {_callers(facts.set_aside)} says so, and it does not count: {_names(facts.set_aside)}."
        )
    if not sentences:
        sentences.append("Lockkeeper has read all reports itself.")
    return Finding(Verdict.PASS, " ".join(sentences), evidence)


def _told(reports: "list[ReportFact] | tuple[ReportFact, ...]") -> list[dict[str, object]]:
    return [
        {"report": report.id, "name": report.name, "asserted_by": report.asserted_by} for report in reports
    ]


def _names(reports: "list[ReportFact] | tuple[ReportFact, ...]") -> str:
    return ", ".join(report.name for report in reports)


def _callers(reports: "list[ReportFact] | tuple[ReportFact, ...]") -> str:
    return ", ".join(sorted({report.asserted_by for report in reports}))


RULE = Rule("evidence_source", Parameters, judge)
