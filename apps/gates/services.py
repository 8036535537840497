"""Write policies."""

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from apps.access.models import User
from apps.catalog.models import Environment
from apps.errors import Invalid
from apps.gates.models import Policy
from apps.gates.parameters import read_parameters, write_parameters
from apps.gates.rules import RULES
from apps.ledger.services import record


def clean_rules(rules: Any) -> list[dict[str, Any]]:
    """The rules with every parameter written out; Invalid for anything that this version does not know."""
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        raise Invalid(f"A policy is a list of rules, not {rules!r}.")
    cleaned: list[dict[str, Any]] = []
    for number, entry in enumerate(rules, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("rule"), str):
            raise Invalid(
                f'Rule {number} is not of the form {{"rule": NAME, "parameters": {{…}}}}: {entry!r}.'
            )
        if extra := sorted(str(key) for key in entry if key not in {"rule", "parameters"}):
            raise Invalid(f"Rule {number} ({entry['rule']}) has an unknown key: {', '.join(extra)}.")
        rule = RULES.get(entry["rule"])
        if rule is None:
            raise Invalid(f"Unknown rule {entry['rule']!r}. Known: {', '.join(RULES)}.")
        parameters = read_parameters(rule.parameters, entry.get("parameters", {}), rule=rule.name)
        clean = {"rule": rule.name, "parameters": write_parameters(parameters)}
        if clean in cleaned:
            raise Invalid(f"Rule {number} ({rule.name}) is there twice with the same parameters.")
        cleaned.append(clean)
    return cleaned


# Of a policy's two lists, that which stays as it is.
AS_IT_IS: Any = object()


def save_policy(
    *, environment: Environment, rules: Any = AS_IT_IS, rollback: Any = AS_IT_IS, created_by: User | None
) -> Policy:
    """Write the environment's next policy version; the newest one is returned when nothing changed.

    ``rollback`` are the rules for promotions that bring an older release back. A list that is left out
    stays as it is. Raises Invalid for an unknown rule or parameter. No rules is a policy too: a gate that
    is shut.
    """
    cleaned = rules if rules is AS_IT_IS else clean_rules(rules)
    back = rollback if rollback is AS_IT_IS or rollback is None else clean_rules(rollback)
    with transaction.atomic():
        # Versions are numbered without gaps, so one writer at a time.
        Environment.objects.select_for_update(no_key=True).get(pk=environment.pk)
        newest = environment.policies.order_by("-version").first()
        if cleaned is AS_IT_IS:
            cleaned = newest.rules if newest else []
        if back is AS_IT_IS:
            back = newest.rollback if newest else None
        if newest is not None and (newest.rules, newest.rollback) == (cleaned, back):
            return newest
        policy = Policy.objects.create(
            environment=environment,
            version=newest.version + 1 if newest else 1,
            rules=cleaned,
            rollback=back,
            created_by=created_by,
        )
        record(
            chain=environment.service.slug,
            action="policy.saved",
            subject=f"policy:{policy.pk}",
            actor=created_by,
            data={
                "environment": environment.slug,
                "version": policy.version,
                "rules": cleaned,
                "rollback": back,
            },
        )
    return policy
