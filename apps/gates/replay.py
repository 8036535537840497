"""Judge a stored decision again, and compare it with what the ledger says of that time."""

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from apps.errors import DomainError, NotFound
from apps.gates.evaluate import judge
from apps.gates.facts import Facts
from apps.gates.models import Decision
from apps.gates.verdicts import Finding, Verdict
from apps.ledger.hashing import digest_of, plain
from apps.ledger.models import Entry


@dataclass(frozen=True)
class Replay:
    """A decision judged again from its own facts, its policy version and its time of evaluation."""

    decision: Decision
    verdict: Verdict
    findings: tuple[Finding, ...]
    # What is not as it was: verdicts, and whatever the ledger contradicts. One sentence each.
    differences: tuple[str, ...]
    # What a later version of Lockkeeper words in another way, with the same verdict.
    reworded: tuple[str, ...]
    # What nothing can vouch for, since the ledger does not hold it.
    unproven: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not self.differences


def replay_decision(*, pk: int) -> Replay:
    """Judge decision ``pk`` again; nothing is written.

    Raises NotFound where there is none, and DomainError where its facts cannot be read by this version.
    """
    decision = (
        Decision.objects.select_related("policy", "environment__service", "release").filter(pk=pk).first()
    )
    if decision is None:
        raise NotFound(f"There is no decision {pk}.")
    try:
        facts = Facts.from_json(decision.facts)
    except ValueError as error:
        raise DomainError(f"The facts of decision {pk} cannot be read: {error}.") from error
    rollback = facts.promotion is not None and facts.promotion.rollback
    rules = decision.policy.rules_for(rollback=rollback)
    verdict, findings = judge(rules=rules, facts=facts, at=decision.evaluated_at)
    differences, reworded = _compare(decision, verdict, findings)
    contradicted, unproven = _ask_the_ledger(decision, facts)
    return Replay(
        decision=decision,
        verdict=verdict,
        findings=tuple(findings),
        differences=(*contradicted, *differences),
        reworded=reworded,
        unproven=unproven,
    )


def _compare(
    decision: Decision, verdict: Verdict, findings: list[Finding]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    differences: list[str] = []
    reworded: list[str] = []
    if verdict != decision.verdict:
        differences.append(f"The verdict was {decision.verdict} and is {verdict}.")
    for then, now in zip_longest(decision.findings, [finding.to_json() for finding in findings]):
        if then is None or now is None or (then["rule"], then["verdict"]) != (now["rule"], now["verdict"]):
            differences.append(f"- {_words(then)}\n+ {_words(now)}")
        elif then["sentence"] != now["sentence"]:
            reworded.append(f"- {_words(then)}\n+ {_words(now)}")
    return tuple(differences), tuple(reworded)


def _words(finding: dict[str, Any] | None) -> str:
    return f"{finding['rule']}: {finding['verdict']}: {finding['sentence']}" if finding else "(no finding)"


def _ask_the_ledger(decision: Decision, facts: Facts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the ledger contradicts, and what it does not tell. Whether it is whole is for verify_ledger."""
    contradicted: list[str] = []
    unproven: list[str] = []
    chain = decision.environment.service.slug
    entry = None
    if facts.promotion is not None:
        judged = Entry.objects.filter(
            chain=chain, subject=f"promotion:{facts.promotion.id}", action="promotion.judged"
        )
        # By subject, which has an index; a promotion has few decisions.
        entry = next((each for each in judged if each.data.get("decision") == decision.pk), None)
    if entry is None:
        contradicted.append(f"The ledger of {chain} names no decision {decision.pk} on this promotion.")
    else:
        where = f"entry {entry.sequence} of {chain}"
        if entry.data.get("verdict") != decision.verdict:
            contradicted.append(
                f"The verdict is stored as {decision.verdict}; {where} has {entry.data.get('verdict')}."
            )
        recorded = entry.data.get("facts_sha256")
        if recorded is None:
            unproven.append(f"The facts: {where} is from before the ledger held their hash.")
        elif recorded != (found := digest_of(plain(decision.facts))):
            contradicted.append(
                f"The facts are not those that were judged: their SHA-256 is {found}, and {where} has "
                f"{recorded}."
            )
        if "policy" in entry.data and entry.data["policy"] != decision.policy_id:
            contradicted.append(
                f"The decision names policy {decision.policy_id}; {where} has {entry.data['policy']}."
            )
    saved = Entry.objects.filter(
        chain=chain, subject=f"policy:{decision.policy_id}", action="policy.saved"
    ).first()
    policy = decision.policy
    # Entries from before there were rules for rollbacks have none.
    if saved is not None and (
        (saved.data.get("rules"), saved.data.get("rollback")) != (plain(policy.rules), plain(policy.rollback))
    ):
        contradicted.append(
            f"The rules of {decision.policy} are not those that entry {saved.sequence} of {chain} has."
        )
    elif saved is None and decision.policy.rules:
        unproven.append(f"The rules: the ledger of {chain} does not tell of {decision.policy}.")
    return tuple(contradicted), tuple(unproven)
