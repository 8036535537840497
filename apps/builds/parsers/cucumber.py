"""Cucumber JSON, as Cucumber for the JVM, JavaScript and Ruby, behave, Karate and others write it.

There is no schema of it that all follow; https://github.com/cucumber/cucumber-json-schema collects the
dialects. Where readers of it disagree, this one does the following.

- A case is a scenario, and a row of an outline is one. Its result is the gravest of its steps and of the
  hooks around it and around them.
- Outcomes are those of Cucumber's own JUnit formatter (https://github.com/cucumber/junit-xml-formatter):
  ``pending``, ``undefined`` and ``ambiguous`` failed, as they do in strict mode, which is the default. A
  result that is missing, or of another name, is unknown; so is a scenario without steps: it tested nothing.
- A background stands before the scenario that it ran for, and what failed in it failed for that one: the
  scenario's own steps are only skipped then.
- Durations are nanoseconds. Old versions of Cucumber.js wrote milliseconds, which cannot be told apart.
- Of a name that occurs twice in an object the last counts, as in Python's ``json``. A duration of NaN is 0.
- Attempts of a scenario that was retried are files or scenarios of their own, and stay so.

A file is read scenario by scenario. What a step embeds (screenshots, logs) is passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from apps.builds.parsers.case import DETAILS_LIMIT, GRAVITY, NAME_LIMIT, Case, Outcome, first_line
from apps.builds.parsers.duration import number_ns
from apps.builds.parsers.json_stream import JsonReader

SCENARIO_LIMIT = 100_000  # of one feature; its name can come after them, so they wait for it

_OUTCOMES = {
    "passed": Outcome.PASSED,
    "skipped": Outcome.SKIPPED,
    "failed": Outcome.FAILED,
    "pending": Outcome.FAILED,
    "undefined": Outcome.FAILED,
    "ambiguous": Outcome.FAILED,
}
_FEATURE = frozenset({"elements", "uri", "keyword"})  # one of them is in every feature
_STEP = frozenset({"keyword", "name", "result", "before", "after", "status", "duration", "error_message"})


def cases(stream: IO[bytes]) -> Iterator[Case]:
    """Yield each scenario of a Cucumber file in order; raise ReportRefused where it cannot be read on."""
    reader = JsonReader(stream)
    if reader.peek() != "[":
        raise reader.refusal("not Cucumber JSON: it is not a list of features")
    features = 0
    for _ in reader.items():
        features += 1
        yield from _feature(reader)
    reader.finish()
    if not features:
        raise reader.refusal("it lists no feature")


@dataclass
class _Result:
    """What steps and hooks come to."""

    outcome: Outcome = Outcome.PASSED
    duration_ns: int = 0
    message: str = ""
    details: str = ""
    count: int = 0  # of the steps

    def add(self, step: Any, *, is_step: bool) -> None:
        """Count a step or a hook, and the hooks around a step."""
        if not isinstance(step, dict):
            step = {}
        result = step.get("result")
        result = result if isinstance(result, dict) else {}
        status = result.get("status")
        outcome = (
            _OUTCOMES.get(status.lower(), Outcome.UNKNOWN) if isinstance(status, str) else Outcome.UNKNOWN
        )
        self.count += is_step
        self.duration_ns += number_ns(result.get("duration"), unit=1)
        if GRAVITY[outcome] > GRAVITY[self.outcome]:
            self.outcome = outcome
            self.details = _text(result.get("error_message"))[:DETAILS_LIMIT]
            name = f"{_text(step.get('keyword'))}{_text(step.get('name'))}".strip()
            self.message = first_line(self.details) or first_line(f"{_text(status) or 'no result'}: {name}")
        for when in ("before", "after"):
            hooks = step.get(when)
            for hook in hooks if isinstance(hooks, list) else ():
                self.add(hook, is_step=False)

    def join(self, other: "_Result") -> None:
        """Add what steps run before came to."""
        self.duration_ns += other.duration_ns
        self.count += other.count
        if GRAVITY[other.outcome] > GRAVITY[self.outcome]:
            self.outcome, self.message, self.details = other.outcome, other.message, other.details


@dataclass
class _Element:
    """A scenario or a background."""

    name: str = ""
    line: int | None = None
    is_background: bool = False
    result: _Result = field(default_factory=_Result)


def _feature(reader: JsonReader) -> Iterator[Case]:
    name = uri = ""
    keys: set[str] = set()
    scenarios: list[Case] = []
    background = _Result()
    for key in reader.members():
        keys |= {key} & _FEATURE
        if key == "name":
            name = _text(reader.value())[:NAME_LIMIT]
        elif key == "uri":
            uri = _text(reader.value())[:NAME_LIMIT]
        elif key == "elements" and reader.peek() == "[":
            for _ in reader.items():
                element = _element(reader)
                if element.is_background:
                    background = element.result
                    continue
                scenarios.append(_case(element, background))
                background = _Result()
                if len(scenarios) > SCENARIO_LIMIT:
                    raise reader.refusal(f"a feature has more than {SCENARIO_LIMIT:,} scenarios")
        else:
            reader.skip()
    if not keys:
        raise reader.refusal("not Cucumber JSON: an item of the list is no feature")
    for case in scenarios:
        case.suite, case.class_name, case.file = name, uri, uri
        yield case


def _element(reader: JsonReader) -> _Element:
    element = _Element()
    kind = keyword = ""
    for key in reader.members():
        if key == "name":
            element.name = _text(reader.value())[:NAME_LIMIT]
        elif key == "type":
            kind = _text(reader.value())
        elif key == "keyword":
            keyword = _text(reader.value())
        elif key == "line":
            line = reader.value()
            element.line = line if type(line) is int and 0 < line < 10**9 else None
        elif key in {"steps", "before", "after"} and reader.peek() == "[":
            for _ in reader.items():
                element.result.add(reader.value(_STEP), is_step=key == "steps")
        else:
            reader.skip()
    element.is_background = kind.lower() == "background" or (not kind and keyword == "Background")
    return element


def _case(element: _Element, background: _Result) -> Case:
    result = element.result
    if not result.count and result.outcome in {Outcome.PASSED, Outcome.SKIPPED}:
        result.outcome, result.message = Outcome.UNKNOWN, "it has no steps"
    result.join(background)
    return Case(
        "",
        "",
        element.name,
        result.outcome,
        result.duration_ns,
        result.message,
        result.details if result.details != result.message else "",
        line=element.line,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
