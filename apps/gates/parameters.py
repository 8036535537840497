"""The parameters of a rule: a frozen dataclass whose fields say what they accept."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, TypeVar

from apps.errors import Invalid

P = TypeVar("P")


class Unfit(ValueError):
    """A value that a parameter does not accept; the text continues "must be …"."""


@dataclass(frozen=True)
class NoParameters:
    """For rules that have nothing to set."""


def whole_number(*, default: int, minimum: int = 0, maximum: int = 1_000_000, help_text: str) -> Any:
    """A parameter that is a whole number within bounds."""

    def clean(value: Any) -> int:
        if type(value) is not int or not minimum <= value <= maximum:
            raise Unfit(f"must be a whole number from {minimum} to {maximum}")
        return value

    schema = {"type": "integer", "minimum": minimum, "maximum": maximum}
    return field(default=default, metadata={"clean": clean, "help_text": help_text, "schema": schema})


def yes_no(*, default: bool, help_text: str) -> Any:
    """A parameter that is true or false."""

    def clean(value: Any) -> bool:
        if type(value) is not bool:
            raise Unfit("must be true or false")
        return value

    metadata = {"clean": clean, "help_text": help_text, "schema": {"type": "boolean"}}
    return field(default=default, metadata=metadata)


def names(*, help_text: str, required: bool = False) -> Any:
    """A parameter that is a list of distinct, non-empty names; without ``required`` it may be left out."""

    def clean(value: Any) -> tuple[str, ...]:
        fit = isinstance(value, list | tuple) and all(
            isinstance(each, str) and each.strip() for each in value
        )
        if not fit or len(set(value)) != len(value):
            raise Unfit("must be a list of different names")
        if required and not value:
            raise Unfit("must name at least one")
        return tuple(value)

    word = {"type": "string", "pattern": r"\S"}
    schema = {"type": "array", "items": word, "uniqueItems": True, "minItems": int(required)}
    metadata = {"clean": clean, "help_text": help_text, "schema": schema}
    return field(metadata=metadata) if required else field(default=(), metadata=metadata)


def wait_minutes(*, default: int = 60) -> Any:
    """How long a rule waits for evidence before it calls the matter inconclusive."""
    return whole_number(
        default=default,
        minimum=1,
        maximum=60 * 24 * 30,
        help_text="Minutes to wait for evidence; after that the verdict is inconclusive.",
    )


def excuse_quarantined() -> Any:
    """How many failures of quarantined tests a rule excuses: see apps.gates.rules.base.excused."""
    return whole_number(
        default=0,
        maximum=100,
        help_text="Failures of quarantined tests that are excused, at most; with 0 none is.",
    )


def read_parameters(kind: Callable[..., P], values: Any, *, rule: str) -> P:
    """Check ``values`` against a rule's dataclass; Invalid names rule, parameter and what it takes."""
    if not isinstance(values, Mapping):
        raise Invalid(f"Rule {rule}: its parameters must be an object, not {values!r}.")
    known: dict[str, Field[Any]] = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    if unknown := sorted(str(key) for key in values if key not in known):
        raise Invalid(
            f"Rule {rule} has no parameter {', '.join(unknown)}. It takes: {', '.join(known) or 'none'}."
        )
    cleaned: dict[str, Any] = {}
    for name, each in known.items():
        if name not in values:
            if each.default is MISSING:
                raise Invalid(f"Rule {rule}: {name} is missing. {each.metadata['help_text']}")
            continue
        try:
            cleaned[name] = each.metadata["clean"](values[name])
        except Unfit as error:
            raise Invalid(f"Rule {rule}: {name} {error}, not {values[name]!r}.") from error
    return kind(**cleaned)


def first_unfit(kind: Callable[..., Any], values: Any) -> str | None:
    """The name of the first parameter that ``read_parameters`` would refuse; None if it is not one alone."""
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    for name, value in values.items() if isinstance(values, Mapping) else ():
        if name not in known:
            return str(name)
        try:
            known[name].metadata["clean"](value)
        except Unfit:
            return str(name)
    return None


def json_schema(kind: Callable[..., Any]) -> dict[str, Any]:
    """What ``read_parameters`` accepts, as JSON Schema (2020-12); it has the last word."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for each in fields(kind):  # type: ignore[arg-type]  # a dataclass
        described = {**each.metadata.get("schema", {}), "description": each.metadata["help_text"]}
        if each.default is MISSING:
            required.append(each.name)
        else:
            described["default"] = list(each.default) if isinstance(each.default, tuple) else each.default
        properties[each.name] = described
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def write_parameters(parameters: Any) -> dict[str, Any]:
    """The parameters as a policy keeps them: all of them, so that a later default changes no old policy."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(parameters).items()
    }
