"""A flight record as a host wrote it: checked field by field, since hosts are not trusted.

Schema 1; scripts/codedeploy/deploy writes it. What does not fit makes the whole record unreadable; texts that
are too long are cut, and characters that are no text are replaced.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

SCHEMA = 1
MAX_BYTES = 64 * 1024
MAX_STEPS = 200
MAX_TAIL = 40
MAX_MIGRATIONS = 1000
RESULTS = frozenset({"running", "succeeded", "failed"})
MIGRATION_RESULTS = frozenset({"applied", "nothing", "by-another", "failed"})
DIGEST = re.compile(r"[0-9a-f]{64}")
CODE = re.compile(r"[a-z][a-z0-9-]{0,39}")
# Control characters, but for tabs and line ends.
NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
LONGEST_S = 10_000_000.0


class Unreadable(Exception):
    """The record cannot be used; the text says why."""


@dataclass(frozen=True)
class Place:
    """What the record's key says that it is about."""

    deployment_id: str
    host: str
    application: str
    group: str
    event: str


def read_record(raw: bytes, place: Place) -> dict[str, Any]:
    """The record with nothing but known fields, each of its own type. Raises Unreadable."""
    if len(raw) > MAX_BYTES:
        raise Unreadable(f"It has {len(raw):,} bytes; at most {MAX_BYTES:,} are read.")
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"It is not JSON: {error}.") from None
    if not isinstance(data, dict):
        raise Unreadable("It is not a JSON object.")
    if data.get("schema") != SCHEMA:
        raise Unreadable(f"Its schema is {str(data.get('schema'))[:20]}; this version knows {SCHEMA}.")
    for name, wanted in vars(place).items():
        if data.get(name) != wanted:
            raise Unreadable(f"Its {name} is not {wanted}, which its key names.")
    return {
        "schema": SCHEMA,
        **vars(place),
        "digest": _field(data, "digest", _or_null(_matching(DIGEST))),
        "version": _field(data, "version", _or_null(_text(200))),
        "started_at": _field(data, "started_at", _time),
        "seconds": _field(data, "seconds", _or_null(_seconds)),
        "exit_code": _field(data, "exit_code", _or_null(_exit_code)),
        "result": _field(data, "result", _one_of(RESULTS)),
        "error": _field(data, "error", _text(2000)),
        "cause": _field(data, "cause", _or_null(_matching(CODE))),
        "steps": _field(data, "steps", _list_of(_step, MAX_STEPS)),
        "tail": _field(data, "tail", _list_of(_text(300), MAX_TAIL)),
        "migrations": _field(data, "migrations", _or_null(_migrations)),
        "bundle": _field(data, "bundle", _bundle),
    }


Reader = Callable[[Any], Any]


def _field(data: dict[str, Any], name: str, read: Reader) -> Any:
    if name not in data:
        raise Unreadable(f"It has no {name}.")
    try:
        return read(data[name])
    except ValueError as error:
        raise Unreadable(f"Its {name} {error}.") from None


def _text(limit: int) -> Reader:
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("is not text")
        value = NO_TEXT.sub("\ufffd", value)
        return value if len(value) <= limit else f"{value[: limit - 1]}…"

    return read


def _matching(pattern: re.Pattern[str]) -> Reader:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"does not match {pattern.pattern}")
        return value

    return read


def _one_of(values: frozenset[str]) -> Reader:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise ValueError(f"is none of {', '.join(sorted(values))}")
        return value

    return read


def _or_null(read: Reader) -> Reader:
    return lambda value: None if value is None else read(value)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is not a number")
    if not math.isfinite(value) or not 0 <= value <= LONGEST_S:
        raise ValueError("is no number of seconds")
    return float(value)


def _exit_code(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -255 <= value <= 255:
        raise ValueError("is not an exit code")
    return value


def _time(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a time")
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is not a time as ISO 8601 writes it") from None
    if time.tzinfo is None:
        raise ValueError("has no time zone")
    try:
        return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:
        raise ValueError("is not a time that anybody lives in") from None


def _list_of(read: Reader, limit: int) -> Reader:
    def read_all(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError("is not a list")
        if len(value) > limit:
            raise ValueError(f"has {len(value):,} items; at most {limit:,} are read")
        return [read(item) for item in value]

    return read_all


def _object(value: Any, **readers: Reader) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    found = {}
    for name, read in readers.items():
        if name not in value:
            raise ValueError(f"has no {name}")
        try:
            found[name] = read(value[name])
        except ValueError as error:
            raise ValueError(f"has a {name} that {error}") from None
    return found


def _step(value: Any) -> dict[str, Any]:
    return _object(
        value,
        name=_text(60),
        text=_text(300),
        started_s=_seconds,
        seconds=_or_null(_seconds),
        result=_one_of(RESULTS),
    )


def _migrations(value: Any) -> dict[str, Any]:
    return _object(
        value,
        plan=_list_of(_text(200), MAX_MIGRATIONS),
        applied=_list_of(_text(200), MAX_MIGRATIONS),
        seconds=_seconds,
        host=_text(200),
        result=_one_of(MIGRATION_RESULTS),
        error=_text(2000),
    )


def _bundle(value: Any) -> dict[str, Any]:
    return _object(value, bucket=_text(100), key=_text(1024), version=_text(1024), etag=_text(100))
