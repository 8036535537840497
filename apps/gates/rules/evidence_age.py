"""The evidence is recent: the build ended at most so many hours ago.

What a build proved of dependencies, certificates and the services around it fades, though its reports stay.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from apps.gates.facts import Facts
from apps.gates.parameters import wait_minutes, whole_number
from apps.gates.rules.base import Rule, build_evidence, moment, not_read_yet, report_evidence
from apps.gates.verdicts import Finding, Verdict


@dataclass(frozen=True)
class Parameters:
    maximum_hours: int = whole_number(
        default=24 * 7,
        minimum=1,
        maximum=24 * 366,
        help_text="Hours for which evidence counts, from the end of its build.",
    )
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """Blocked once it is too old, even if it was never read to the end: only a new build mends that."""
    build = facts.build
    who = f"a developer of {facts.service}, by a new build"
    hours = f"{parameters.maximum_hours:,} hour{'' if parameters.maximum_hours == 1 else 's'}"
    evidence = build_evidence(build) if build else {}
    if build is not None and build.finished_at is not None:
        until = build.finished_at + timedelta(hours=parameters.maximum_hours)
        evidence |= {
            "maximum_hours": parameters.maximum_hours,
            "finished_at": build.finished_at.isoformat(),
            "counts_until": until.isoformat(),
        }
        # Moments rather than an age, so that the sentence stays the same while the verdict does.
        ended = f"Build {build.codebuild_id} ended at {moment(build.finished_at)}"
        if at > until:
            return Finding(
                Verdict.BLOCKED,
                f"{ended}; its evidence counted for {hours}, until {moment(until)}.",
                evidence,
                who,
            )
    if waiting := not_read_yet(facts, at, wait_minutes=parameters.wait_minutes):
        return waiting
    if build is None or build.finished_at is None:
        return Finding(
            Verdict.INCONCLUSIVE,
            "It is not known when the build ended, so its evidence has no age.",
            evidence,
            who,
        )
    if not facts.reports:
        return Finding(Verdict.INCONCLUSIVE, f"{ended} and left no report to count.", evidence, who)
    if incomplete := [report for report in facts.reports if not report.complete]:
        return Finding(
            Verdict.INCONCLUSIVE,
            f"{ended}, and its evidence is not complete: {incomplete[0].name} "
            f"({incomplete[0].problem or 'no raw file was read'}).",
            evidence | {"reports": [report_evidence(report) for report in incomplete]},
            who,
        )
    return Finding(
        Verdict.PASS, f"{ended}; its evidence counts for {hours}, until {moment(until)}.", evidence
    )


RULE = Rule("evidence_age", Parameters, judge)
