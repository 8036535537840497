"""What a rule is, and what the rules on evidence share."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apps.gates.facts import BuildFact, Facts, ReportFact
from apps.gates.verdicts import Finding, Verdict


@dataclass(frozen=True)
class Rule:
    """A named pure function of facts, parameters and the time of evaluation."""

    name: str
    parameters: type[Any]
    judge: Callable[[Facts, Any, datetime], Finding]

    @property
    def description(self) -> str:
        """What it asks for, in a sentence: the first paragraph of its module's docstring."""
        docstring = sys.modules[self.judge.__module__].__doc__ or ""
        return " ".join(docstring.split("\n\n", 1)[0].split())


def build_evidence(build: BuildFact) -> dict[str, Any]:
    """How a finding refers to a build."""
    return {"build": build.id, "codebuild_id": build.codebuild_id, "log_url": build.log_url}


def report_evidence(report: ReportFact) -> dict[str, Any]:
    """How a finding refers to a report: with the three counts that must agree."""
    return {
        "report": report.id,
        "name": report.name,
        "status": report.status,
        "declared": report.declared,
        "returned": report.returned,
        "parsed": report.parsed,
        "problem": report.problem,
    }


def not_read_yet(facts: Facts, at: datetime, *, wait_minutes: int) -> Finding | None:
    """A finding while the build's evidence has not been read to the end; None when it has.

    It waits until ``wait_minutes`` after the build's end (after its registration while it runs), and is
    inconclusive from then on.
    """
    build = facts.build
    if build is None:
        return Finding(Verdict.INCONCLUSIVE, "It is not known which build made this release.")
    if build.collected_at is not None:
        return None
    deadline = (build.finished_at or build.registered_at) + timedelta(minutes=wait_minutes)
    evidence = build_evidence(build) | {"waits_until": deadline.isoformat(), "problem": build.problem}
    running = build.status == "IN_PROGRESS"
    state = "is still running" if running else "has ended, and its reports have not been read yet"
    if at < deadline:
        return Finding(
            Verdict.WAITING_EVIDENCE,
            f"Build {build.codebuild_id} {state}.",
            evidence,
            who="CodeBuild" if running else "manage.py reconcile",
        )
    why = f" ({build.problem})" if build.problem else ""
    return Finding(
        Verdict.INCONCLUSIVE,
        f"Build {build.codebuild_id} {state}{why}; evidence was expected within {wait_minutes} minutes.",
        evidence,
        who="whoever runs CodeBuild" if running else "whoever runs manage.py reconcile",
    )


def counted_reports(facts: Facts, groups: tuple[str, ...]) -> list[ReportFact]:
    """The test reports that a rule counts: those of ``groups``, or every one where none is named."""
    return [
        report for report in facts.reports if report.type == "TEST" and (not groups or report.name in groups)
    ]


def uncountable(
    reports: list[ReportFact], groups: tuple[str, ...], *, noun: str, evidence: dict[str, Any], who: str
) -> Finding | None:
    """An inconclusive finding where a report is missing or not complete; None where all can be counted."""
    counted = {report.name for report in reports}
    missing = [name for name in groups if name not in counted]
    if missing or not reports:
        what = f"There is no test report {', '.join(missing)}" if missing else "There is no test report"
        return Finding(Verdict.INCONCLUSIVE, f"{what}, so {noun} cannot be counted.", evidence, who)
    if incomplete := [report for report in reports if not report.complete]:
        return Finding(
            Verdict.INCONCLUSIVE,
            f"{noun.capitalize()} cannot be counted: {incomplete[0].name} is not complete "
            f"({incomplete[0].problem or 'no raw file was read'}).",
            evidence,
            who,
        )
    return None
