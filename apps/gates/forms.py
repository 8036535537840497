"""A policy's list of rules as a form: a row for each rule, with a field for each of its parameters."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanSwitchWidget,
)

from apps.errors import Invalid
from apps.gates.rules import RULES
from apps.gates.rules.base import Rule
from apps.gates.services import clean_rules

# Stands in the names of a rule's fields until the row is added to the form.
NUMBER = "__number__"


class RulesWidget(forms.Widget):
    """Rows that can be added and removed; ``name`` itself is there to say that the list was sent at all."""

    template_name = "gates/rules_widget.html"

    class Media:
        js: ClassVar = ("gates/rules.js",)

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        rows = [_row(f"{name}-{number}", entry) for number, entry in enumerate(value or [])]
        blank = [_row(f"{name}-{NUMBER}", {"rule": rule}) for rule in RULES]
        choice = UnfoldAdminSelectWidget(
            attrs={"data-rules-choice": True, "aria-label": "A rule to add"},
            choices=[(rule, rule) for rule in RULES],
        )
        return context | {"rows": rows, "blank": blank, "choice": choice.render("", None)}

    def format_value(self, value: Any) -> Any:
        return value

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> list[dict[str, Any]]:
        prefix = re.compile(rf"({re.escape(name)}-[0-9]{{1,6}})-rule")
        rows = [match[1] for key in data if (match := prefix.fullmatch(key))]
        return [_read(data, row) for row in sorted(rows, key=lambda row: int(row.rpartition("-")[2]))]

    def use_required_attribute(self, initial: Any) -> bool:
        return False

    def id_for_label(self, id_: str, index: str | None = None) -> str:
        return ""  # of many inputs, none is the list


class RulesField(forms.Field):
    """Rules that a policy may have, as it keeps them; an empty list is one, too."""

    widget = RulesWidget

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"required": False, **options})

    def clean(self, value: Any) -> list[dict[str, Any]]:
        try:
            return clean_rules(value)
        except Invalid as error:
            raise ValidationError(str(error)) from error


def _row(prefix: str, entry: dict[str, Any]) -> dict[str, Any]:
    """What the template needs of a rule and what is set, or was typed, of its parameters."""
    rule = RULES.get(entry["rule"])
    given = entry.get("parameters", {})
    return {
        "prefix": prefix,
        "rule": entry["rule"],
        "description": rule.description if rule else "This version does not know it. Remove it to go on.",
        "known": rule is not None,
        "parameters": [_input(f"{prefix}-{each.name}", each, given) for each in _parameters(rule)],
    }


def _input(name: str, parameter: Field[Any], given: dict[str, Any]) -> dict[str, Any]:
    schema, required = parameter.metadata["schema"], parameter.default is MISSING
    value = given.get(parameter.name, None if required else parameter.default)
    attrs: dict[str, Any] = {"id": f"id_{name}", "required": required}
    widget: forms.Widget
    if schema["type"] == "boolean":
        widget = UnfoldBooleanSwitchWidget(attrs={"id": f"id_{name}"})
    elif schema["type"] == "array":
        widget = UnfoldAdminTextareaWidget(attrs={**attrs, "rows": 2, "placeholder": "one on each line"})
        value = "\n".join(value or ())
    else:
        bounds = {"min": schema["minimum"], "max": schema["maximum"], "required": True}
        widget = UnfoldAdminIntegerFieldWidget(attrs={**attrs, **bounds})
    return {
        "id": f"id_{name}",
        "label": parameter.name.replace("_", " "),
        "help_text": parameter.metadata["help_text"],
        "html": widget.render(name, value),
    }


def _read(data: Mapping[str, Any], row: str) -> dict[str, Any]:
    """A rule of a form that was sent; what cannot be read stays as it was typed, and is refused with it."""
    name = data[f"{row}-rule"]
    parameters: dict[str, Any] = {}
    for each in _parameters(RULES.get(name)):
        kind, value = each.metadata["schema"]["type"], data.get(f"{row}-{each.name}")
        if kind == "boolean":
            parameters[each.name] = value is not None
        elif kind == "array":
            parameters[each.name] = [line.strip() for line in (value or "").splitlines() if line.strip()]
        elif value:
            parameters[each.name] = int(value) if re.fullmatch(r"-?[0-9]{1,9}", value) else value
    return {"rule": name, "parameters": parameters}


def _parameters(rule: Rule | None) -> tuple[Field[Any], ...]:
    return fields(rule.parameters) if rule else ()
