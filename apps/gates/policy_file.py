"""Policies as YAML that people edit and keep in version control: write it, read it back, compare.

The file maps SERVICE/ENVIRONMENT to a list of rules, as in the ``policy`` of ``register_service``'s file, and
SERVICE/ENVIRONMENT/rollback to those for bringing an older release back.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import yaml

from apps.errors import Invalid
from apps.gates.models import Policy
from apps.gates.parameters import first_unfit
from apps.gates.rules import RULES
from apps.gates.services import clean_rules

HEAD = """\
# Lockkeeper's policies: for each SERVICE/ENVIRONMENT a list of rules, all of which have to pass, and for
# SERVICE/ENVIRONMENT/rollback those that have to pass where an older release is brought back.
# manage.py policy diff FILE shows what this file would change, manage.py policy import FILE changes it.
"""


# No environment's slug holds a slash.
ROLLBACK = "/rollback"


@dataclass(frozen=True)
class PolicyEntry:
    """The rules that a file has for one environment: for promotions, or for rollbacks."""

    service: str
    environment: str
    rules: list[dict[str, Any]]
    place: str  # FILE:LINE, for what is found wrong with it later
    rollback: bool = False

    @property
    def name(self) -> str:
        return f"{self.service}/{self.environment}{ROLLBACK if self.rollback else ''}"


def write_policies(policies: Iterable[Policy]) -> str:
    """The file that holds these policies, with what each parameter means beside it."""
    parts = [HEAD]
    for policy in policies:
        service = policy.environment.service.slug
        name = f"{service}/{policy.environment.slug}"
        head = f"{name}:  # version {policy.version}"
        parts.append("\n".join([head, *_rules(policy.rules, comments=True)]) + "\n")
        if policy.rollback is not None:
            parts.append("\n".join([f"{name}{ROLLBACK}:", *_rules(policy.rollback, comments=True)]) + "\n")
    return "\n".join(parts)


def policy_difference(before: Policy, after: Policy) -> list[str]:
    """What a version changed of the one before it: of its rules, then of those for rollbacks."""
    old, new = str(before), str(after)
    lines = difference(before.rules, after.rules, old=old, new=new)
    if before.rollback != after.rollback:
        back = difference(
            before.rollback or [], after.rollback or [], old=f"{old} rollback", new=f"{new} rollback"
        )
        lines += back or ["Rollbacks have rules of their own now: none, so nothing passes."]
    return lines


def difference(before: Sequence[Any], after: Sequence[Any], *, old: str, new: str) -> list[str]:
    """A unified diff of two lists of rules, as YAML; empty when they are the same."""
    lines = difflib.unified_diff(_rules(before), _rules(after), old, new, n=100, lineterm="")
    return list(lines)


def _rules(rules: Sequence[Any], *, comments: bool = False) -> list[str]:
    if not rules:
        return ["  []"]
    return [line for entry in rules for line in _rule(entry, comments)]


def _rule(entry: dict[str, Any], comments: bool) -> Iterator[str]:
    yield f"  - rule: {_scalar(entry['rule'])}"
    if not (parameters := entry.get("parameters", {})):
        return
    rule = RULES.get(entry["rule"])
    help_texts = {each.name: each.metadata["help_text"] for each in fields(rule.parameters)} if rule else {}
    yield "    parameters:"
    # PostgreSQL gives them back in an order of its own.
    order = list(help_texts)
    for name, value in sorted(
        parameters.items(), key=lambda each: order.index(each[0]) if each[0] in order else len(order)
    ):
        if comments and name in help_texts:
            yield f"      # {help_texts[name]}"
        yield f"      {name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    text: str = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False
    )
    return text.removesuffix("...\n").strip()


def read_policies(text: str, *, name: str) -> list[PolicyEntry]:
    """The entries of a file called ``name``, every parameter written out.

    Raises Invalid, with file and line, for whatever is not YAML of this form and for every rule, parameter
    and value that this version does not know.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            raise Invalid(f"{name} holds no policy.")
        _refuse_duplicates(root, name)
        if not isinstance(root, yaml.MappingNode):
            raise Invalid(f"{_place(name, root)}: SERVICE/ENVIRONMENT: [RULE, …] is expected.")
        return [_entry(loader, key, value, name) for key, value in root.value]
    except yaml.YAMLError as error:
        raise Invalid(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()


def _entry(loader: yaml.SafeLoader, key: yaml.Node, value: yaml.Node, name: str) -> PolicyEntry:
    where = loader.construct_object(key, deep=True)
    rollback = isinstance(where, str) and where.endswith(ROLLBACK) and where.count("/") > 1
    words = where.removesuffix(ROLLBACK) if rollback else where
    service, slash, environment = words.partition("/") if isinstance(words, str) else ("", "", "")
    if not (service and slash and environment) or "/" in environment:
        raise Invalid(
            f"{_place(name, key)}: {where!r} is not of the form SERVICE/ENVIRONMENT, nor of "
            f"SERVICE/ENVIRONMENT{ROLLBACK}."
        )
    if not isinstance(value, yaml.SequenceNode):
        raise Invalid(f"{_place(name, value)}: a list of rules is expected for {where}; [] for none.")
    rules: list[dict[str, Any]] = []
    for node in value.value:
        entry = loader.construct_object(node, deep=True)
        try:
            (cleaned,) = clean_rules([entry])
        except Invalid as error:
            place = _place(name, _at_fault(node, entry))
            # Its number would be that in a list of one.
            raise Invalid(f"{place}: {where}: {str(error).replace('Rule 1 ', 'The rule ')}") from error
        if cleaned in rules:
            raise Invalid(
                f"{_place(name, node)}: {where}: {cleaned['rule']} is there twice with the same parameters."
            )
        rules.append(cleaned)
    return PolicyEntry(
        service=service, environment=environment, rules=rules, place=_place(name, key), rollback=rollback
    )


def _at_fault(node: yaml.Node, entry: Any) -> yaml.Node:
    """The parameter that is wrong, as far as it can be told; else the rule."""
    rule = (
        RULES.get(entry["rule"]) if isinstance(entry, dict) and isinstance(entry.get("rule"), str) else None
    )
    if rule is None or not isinstance(node, yaml.MappingNode):
        return node
    parameters = next((value for key, value in node.value if key.value == "parameters"), None)
    if isinstance(parameters, yaml.MappingNode):
        wrong = first_unfit(rule.parameters, entry["parameters"])
        return next((key for key, _ in parameters.value if key.value == wrong), parameters)
    return node


def _refuse_duplicates(node: yaml.Node, name: str) -> None:
    """A key that is there twice would silently be the last of both."""
    if isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise Invalid(f"{_place(name, key)}: a key must be a word.")
            if key.value in seen:
                raise Invalid(f"{_place(name, key)}: {key.value} is there twice.")
            seen.add(key.value)
            _refuse_duplicates(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _refuse_duplicates(each, name)


def _place(name: str, node: yaml.Node) -> str:
    return f"{name}:{node.start_mark.line + 1}"
