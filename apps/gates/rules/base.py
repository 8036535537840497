"""What a rule is, and what the rules on evidence share."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.gates.facts import BuildFact, ComparisonFact, Facts, QuarantineFact, ReportFact, RunningFact
from apps.gates.verdicts import Finding, Verdict

NAMES_SHOWN = 3  # tests named in a sentence; the evidence names more


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


def moment(at: datetime) -> str:
    """A time in a sentence, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


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
    } | (
        {"lines_covered": report.lines_covered, "lines_total": report.lines_total}
        if report.type == "CODE_COVERAGE"
        else {}
    )


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


def counted_reports(
    of: Facts | RunningFact, groups: tuple[str, ...], *, kind: str = "TEST"
) -> list[ReportFact]:
    """The reports that a rule counts: those of ``groups``, or every one of its kind where none is named.

    ``kind`` is CodeBuild's: TEST or CODE_COVERAGE.
    """
    return [report for report in of.reports if report.type == kind and (not groups or report.name in groups)]


def uncountable(
    reports: list[ReportFact],
    groups: tuple[str, ...],
    *,
    noun: str,
    evidence: dict[str, Any],
    who: str,
    what: str = "test report",
) -> Finding | None:
    """An inconclusive finding where a report is missing or not complete; None where all can be counted."""
    counted = {report.name for report in reports}
    missing = [name for name in groups if name not in counted]
    if missing or not reports:
        which = f"There is no {what} {', '.join(missing)}" if missing else f"There is no {what}"
        return Finding(Verdict.INCONCLUSIVE, f"{which}, so {noun} cannot be counted.", evidence, who)
    if incomplete := [report for report in reports if not report.complete]:
        return Finding(
            Verdict.INCONCLUSIVE,
            f"{noun.capitalize()} cannot be counted: {incomplete[0].name} is not complete "
            f"({incomplete[0].problem or 'no raw file was read'}).",
            evidence,
            who,
        )
    return None


@dataclass(frozen=True)
class Excused:
    """The failures that a rule does not count, since their tests are quarantined."""

    quarantines: tuple[QuarantineFact, ...]
    # Those beyond what the policy excuses, which count.
    beyond: int
    limit: int
    # How many more could be excused if the cases of their reports had not been pruned.
    unknown: int = 0

    def __len__(self) -> int:
        return len(self.quarantines)

    @property
    def sentence(self) -> str:
        """A sentence that names each excused test, to be added to a finding's; empty where nothing is."""
        if not self.quarantines:
            return ""
        names = ", ".join(
            f"{each.name} (by {each.by.username} until {each.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC)"
            for each in self.quarantines
        )
        more = f"; {self.beyond} more are quarantined, and count" if self.beyond else ""
        return f" Excused, since quarantined: {names}{more}."

    @property
    def evidence(self) -> dict[str, Any]:
        """What to add to a finding's evidence; nothing where the policy excuses nothing."""
        if not self.limit:
            return {}
        told = [
            {
                "quarantine": each.id,
                "name": each.name,
                "report": each.report,
                "by": each.by.username,
                "reason": each.reason,
                "at": each.at.isoformat(),
                "until": each.until.isoformat(),
            }
            for each in self.quarantines
        ]
        return {"excused": told, "excuse_quarantined": self.limit}


def excused(facts: Facts, reports: list[ReportFact], *, limit: int, at: datetime) -> Excused:
    """Of the failures in ``reports``, those excused: at most ``limit``, of tests in quarantine at ``at``."""
    counted = {report.name for report in reports}
    quarantined = [each for each in facts.quarantines if each.report in counted and at < each.until]
    gone = sum(report.failed + report.errors for report in reports if report.pruned_at)
    told = tuple(quarantined[:limit])
    return Excused(told, max(len(quarantined) - limit, 0), limit, unknown=min(gone, limit - len(told)))


def pruned(reports: list[ReportFact], *, evidence: dict[str, Any], who: str) -> Finding:
    """An inconclusive finding: what would decide was in the cases of a report, which are gone."""
    report, moment = next((each, at) for each in reports if (at := each.pruned_at))
    return Finding(
        Verdict.INCONCLUSIVE,
        f"Which tests of {report.name} are quarantined cannot be told any more: its cases were pruned on "
        f"{moment.astimezone(UTC):%Y-%m-%d}.",
        evidence,
        who,
    )


@dataclass(frozen=True)
class Baseline:
    """What a release is compared with: the reports of the one that runs in the environment now."""

    reports: tuple[ReportFact, ...]
    # How a sentence calls it, such as "1.1.0, which runs in production,"; empty where there is none.
    name: str
    # Why there is nothing to compare with; empty where there is.
    absent: str
    evidence: dict[str, Any] | None

    @property
    def incomplete(self) -> ReportFact | None:
        """A report that cannot be compared with, since it was not read to its end."""
        return next((report for report in self.reports if not report.complete), None)


def running_baseline(facts: Facts, groups: tuple[str, ...], *, kind: str = "TEST") -> Baseline:
    """What the reports that a rule counts are compared with. The release itself is no baseline of its own."""
    running = facts.running
    if running is None:
        return Baseline((), "", f"Nothing runs in {facts.environment} to compare with", None)
    told = {"release": running.release_id, "version": running.version}
    if running.release_id == facts.release_id:
        return Baseline((), "", f"It runs in {facts.environment} itself", told)
    reports = tuple(counted_reports(running, groups, kind=kind))
    told["reports"] = [report_evidence(report) for report in reports]
    name = f"{running.version}, which runs in {facts.environment},"
    return Baseline(reports, name, "" if reports else f"{name} has no such report to compare with", told)


def incomparable(
    facts: Facts, baseline: Baseline, *, evidence: dict[str, Any], parameter: str = "", off: int = 0
) -> Finding | None:
    """An inconclusive finding where what runs left a report that was not read to its end, else None.

    ``off`` is the value of the rule's ``parameter`` that asks for no comparison, if it has such a one.
    """
    if (report := baseline.incomplete) is None:
        return None
    what = f"{parameter} {off}" if parameter else "a policy without this rule"
    return Finding(
        Verdict.INCONCLUSIVE,
        f"{baseline.name} cannot be compared with: its report {report.name} is not complete "
        f"({report.problem or 'no raw file was read'}).",
        evidence,
        who=f"whoever manages {facts.service}: {what} lets a release pass without comparing",
    )


def compare_with_running(
    facts: Facts,
    *,
    groups: tuple[str, ...],
    wait_minutes: int,
    maximum: int,
    at: datetime,
    noun: str,
    count: Callable[[ComparisonFact], int],
    names: Callable[[ComparisonFact], tuple[str, ...]],
    doubtful: Callable[[ReportFact], int] = lambda _: 0,
) -> Finding:
    """Blocked where more than ``maximum`` tests changed so against what runs in the environment.

    ``count`` and ``names`` take what changed from a comparison; ``noun`` is one such change. ``doubtful``
    takes from a report how many more may have changed so, since their outcome is unknown. Where nothing
    runs, or what runs has no such report, it passes and says so.
    """
    if waiting := not_read_yet(facts, at, wait_minutes=wait_minutes):
        return waiting
    reports = counted_reports(facts, groups)
    baseline = running_baseline(facts, groups)
    compared = [each for each in facts.comparisons or () if each.group in groups or not groups]
    number = sum(count(each) for each in compared)
    first = [{"name": name, "group": each.group} for each in compared for name in names(each)]
    evidence: dict[str, Any] = {
        "maximum": maximum,
        "count": number,
        "tests": first,
        "reports": [report_evidence(report) for report in reports],
        "running": baseline.evidence,
    } | (build_evidence(facts.build) if facts.build else {})
    who = f"a developer of {facts.service}"
    if finding := uncountable(reports, groups, noun=f"{noun}s", evidence=evidence, who=who):
        return finding
    if baseline.absent:
        return Finding(Verdict.PASS, f"{baseline.absent}.", evidence)
    if finding := incomparable(facts, baseline, evidence=evidence):
        return finding
    if sent := next((each for each in (*reports, *baseline.reports) if each.asserted_by), None):
        why = f"{sent.name} was sent by {sent.asserted_by}; only what Lockkeeper has read itself is compared."
        return Finding(Verdict.INCONCLUSIVE, why, evidence, f"whoever manages {facts.service}: name groups")
    if facts.comparisons is None:
        return Finding(
            Verdict.INCONCLUSIVE,
            f"The tests have not been compared with those of {baseline.name.rstrip(',')}.",
            evidence,
        )
    if problem := next((each.problem for each in compared if each.problem), ""):
        return Finding(
            Verdict.INCONCLUSIVE, f"{noun.capitalize()}s cannot be counted: {problem}", evidence, who
        )
    counts = f"{number:,} {noun}{'' if number == 1 else 's'} against {baseline.name}"
    unknown = sum(map(doubtful, reports))
    if number <= maximum < number + unknown:
        why = f"{counts} and the outcome of {unknown:,} is unknown; at most {maximum:,} may be."
        return Finding(Verdict.INCONCLUSIVE, why, evidence, who)
    if number <= maximum:
        return Finding(Verdict.PASS, f"{counts.rstrip(',')}; at most {maximum:,} may be.", evidence)
    shown = ", ".join(each["name"] for each in first[:NAMES_SHOWN])
    rest = number - min(len(first), NAMES_SHOWN)
    more = f" and {rest:,} more" if rest and shown else ""
    named = f": {shown}{more}" if shown else ""
    return Finding(Verdict.BLOCKED, f"{counts} and at most {maximum:,} may be{named}.", evidence, who)
