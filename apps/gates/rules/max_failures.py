"""At most so many failures and errors.

Those of quarantined tests can be excused, as many as the policy says.

A build can be SUCCEEDED with a FAILED report, so this looks at the reports and not at the build's status.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.gates.facts import Facts, FailureFact
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

SHOWN = 3  # tests named in the sentence; the evidence names more


@dataclass(frozen=True)
class Parameters:
    maximum: int = whole_number(default=0, help_text="Failures and errors that are accepted, in all.")
    groups: tuple[str, ...] = names(help_text="Report groups that count; without any, every test report.")
    excuse_quarantined: int = excuse_quarantined()
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Blocked as soon as there are too many; otherwise the counts must be complete to pass.

    A test whose outcome is not known may have failed: it passes only where even that would be accepted.
    """
    reports = counted_reports(facts, parameters.groups)
    failed = sum(report.failed for report in reports)
    errors = sum(report.errors for report in reports)
    unknown = sum(report.unknown for report in reports)
    pardon = excused(facts, reports, limit=parameters.excuse_quarantined, at=at)
    counted = {report.name for report in reports}
    failures = [failure for failure in facts.failures if failure.report in counted]
    pardoned = {(each.report, each.name) for each in pardon.quarantines}
    guilty = [failure.name for failure in failures if (failure.report, failure.name) not in pardoned]
    evidence: dict[str, Any] = {
        "maximum": parameters.maximum,
        "failed": failed,
        "errors": errors,
        "unknown": unknown,
        "tests": [_named(failure) | {"message": failure.message} for failure in failures],
        "reports": [report_evidence(report) for report in reports],
    } | (build_evidence(facts.build) if facts.build else {})
    evidence |= pardon.evidence
    who = f"a developer of {facts.service}"
    counts = f"{_count(failed, 'failure')} and {_count(errors, 'error')}"
    # More evidence can only add to the count.
    counting = failed + errors - len(pardon)
    if parameters.maximum < counting <= parameters.maximum + pardon.unknown:
        return pruned(reports, evidence=evidence, who=f"{who}, by a new build")
    if counting > parameters.maximum:
        first = ", ".join(guilty[:SHOWN])
        rest = counting - min(len(guilty), SHOWN)
        more = f" and {rest} more" if rest and first else ""
        named = f": {first}{more}" if first else ""
        return Finding(
            Verdict.BLOCKED,
            f"{counts}, and at most {parameters.maximum} may be{named}.{pardon.sentence}",
            evidence,
            who,
        )
    if waiting := not_read_yet(facts, at, wait_minutes=parameters.wait_minutes):
        return waiting
    if finding := uncountable(reports, parameters.groups, noun="failures", evidence=evidence, who=who):
        return finding
    cases = sum(report.parsed or 0 for report in reports)
    untold = f", and the outcome of {unknown:,} is unknown" if unknown else ""
    told = f"{counts} in {cases:,} tests{untold}; at most {parameters.maximum} may be.{pardon.sentence}"
    if counting + unknown > parameters.maximum:
        return Finding(Verdict.INCONCLUSIVE, told, evidence, who)
    return Finding(
        Verdict.PASS,
        told,
        # What is accepted needs no mending, and the decision's facts have the messages.
        evidence | {"tests": [_named(failure) for failure in failures]},
    )


def _named(failure: FailureFact) -> dict[str, Any]:
    return {"name": failure.name, "status": failure.status, "report": failure.report}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


RULE = Rule("max_failures", Parameters, judge)
