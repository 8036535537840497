"""Judge facts by rules: pure, so that a stored decision can be judged again."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from apps.errors import Invalid
from apps.gates.facts import Facts, ReportFact
from apps.gates.parameters import read_parameters
from apps.gates.rules import RULES, evidence_source, override
from apps.gates.verdicts import Finding, Verdict, worst


def judge(*, rules: Sequence[dict[str, Any]], facts: Facts, at: datetime) -> tuple[Verdict, list[Finding]]:
    """What a policy's rules say of the facts at a time: the worst verdict, and one finding per rule in force.

    Without rules the gate is shut. A rule or parameter that this version does not know (a policy written
    by a later one) is inconclusive. What an override covers keeps its finding, with ``overridden`` as its
    verdict.
    """
    facts = counting(rules, facts)
    entries = in_force(rules, facts)
    findings = [_find(entry, facts, at) for entry in entries]
    findings = _let_pass(entries, findings, facts, at)
    if not rules:
        shut = Finding(
            Verdict.INCONCLUSIVE,
            f"The policy of {facts.environment} has no rules, so nothing passes.",
            who=f"whoever manages {facts.service}: give {facts.environment} a policy",
            rule="policy",
        )
        findings = [shut, *findings]
    return worst(finding.verdict for finding in findings), findings


def in_force(rules: Sequence[dict[str, Any]], facts: Facts) -> list[dict[str, Any]]:
    """A policy's rules, and after them those on what people have said, which no policy may overhear."""
    said = {
        "not_pinned": facts.pin is not None,
        "not_vetoed": bool(facts.vetoes),
        override.NAME: bool(facts.overrides),
    }
    named = {entry.get("rule") for entry in rules}
    return [*rules, *({"rule": name} for name, is_said in said.items() if is_said and name not in named)]


def _let_pass(
    entries: Sequence[dict[str, Any]], findings: list[Finding], facts: Facts, at: datetime
) -> list[Finding]:
    mine = [each for each in entries if each.get("rule") == override.NAME]
    try:
        limits = [
            read_parameters(override.Parameters, each.get("parameters", {}), rule=override.NAME)
            for each in mine
        ]
    except Invalid:
        # Its finding is inconclusive. Limits that cannot be read let nothing pass.
        return findings
    return override.let_pass(findings, limits, facts, at)


def counting(rules: Sequence[dict[str, Any]], facts: Facts) -> Facts:
    """The facts without what callers asserted and the policy does not count; that is set aside.

    It counts where the policy has the rule evidence_source, and each one that it has names the caller.
    """
    callers = [_callers(entry) for entry in rules if entry.get("rule") == evidence_source.RULE.name]
    trusted = set.intersection(*callers) if callers else set()

    def counts(report: ReportFact) -> bool:
        return not report.asserted_by or report.asserted_by in trusted

    if all(map(counts, facts.reports)) and not (
        facts.running and not all(map(counts, facts.running.reports))
    ):
        return facts
    aside = tuple(report for report in facts.reports if not counts(report))
    names = {report.name for report in aside}
    running = facts.running
    if running is not None:
        running = replace(running, reports=tuple(filter(counts, running.reports)))
    return replace(
        facts,
        reports=tuple(filter(counts, facts.reports)),
        failures=tuple(failure for failure in facts.failures if failure.report not in names),
        running=running,
        set_aside=aside,
    )


def _callers(entry: dict[str, Any]) -> set[str]:
    rule = evidence_source.RULE
    try:
        return set(read_parameters(rule.parameters, entry.get("parameters", {}), rule=rule.name).callers)
    except Invalid:
        return set()


def _find(entry: dict[str, Any], facts: Facts, at: datetime) -> Finding:
    name = str(entry.get("rule"))
    rule = RULES.get(name)
    if rule is None:
        return Finding(Verdict.INCONCLUSIVE, f"This version knows no rule {name}.", rule=name)
    try:
        parameters = read_parameters(rule.parameters, entry.get("parameters", {}), rule=name)
    except Invalid as error:
        return Finding(Verdict.INCONCLUSIVE, str(error), rule=name)
    return replace(rule.judge(facts, parameters, at), rule=name)
