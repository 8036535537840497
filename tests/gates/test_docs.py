"""docs/policies.md has every rule with each of its parameters and defaults, and no other."""

import dataclasses
import re
from pathlib import Path

from apps.gates.rules import RULES

REPOSITORY = Path(__file__).resolve().parents[2]


def documented():
    """The parameters of each rule in the tables, with their defaults as they are written there."""
    found = {}
    for line in (REPOSITORY / "docs/policies.md").read_text().splitlines():
        cells = line.split("|")
        names = re.findall(r"`(\w+)`", cells[1]) if line.startswith("| `") else []
        if names and names[0] in RULES:
            parameters = dict(re.findall(r"`(\w+)`\S* \((.+?)\)", cells[2]))
            found |= dict.fromkeys(names, parameters)
    return found


def default(field):
    """The default of a parameter as the tables write it."""
    if field.default in ((), dataclasses.MISSING):
        return "none"
    return str(field.default).lower()


def test_the_tables_are_complete():
    fields = {name: dataclasses.fields(rule.parameters) for name, rule in RULES.items()}
    assert documented() == {
        name: {field.name: default(field) for field in of_rule} for name, of_rule in fields.items()
    }
