"""Reading unit files: syntax, drop-ins, resets, and the values directives take (systemd.syntax(7))."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from .names import Layout, UnitName, resolve_specifiers

_SPAN = {
    "us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3,
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " ",
    "\\": "\\", '"': '"', "'": "'",
}  # fmt: skip
_PIECE = re.compile(r"""(?:[^\s"'\\]|\\.)+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""")
_WORD = re.compile(rf"(?:{_PIECE.pattern})+(?!\S)")


class UnitError(Exception):
    """A unit cannot be loaded; the message names the file and line."""


@dataclass
class UnitFile:
    """The directives of one unit, drop-ins applied, specifiers not yet resolved."""

    name: UnitName
    fragment: Path
    sections: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    where: dict[tuple[str, str], str] = field(default_factory=dict)

    def fail(self, section: str, key: str, problem: str) -> UnitError:
        """Return an error that points at where a directive was last given."""
        return UnitError(f"{self.where.get((section, key), self.fragment)}: {key}=: {problem}")

    def every(self, section: str, key: str) -> list[str]:
        """Every value given for a directive since it was last reset, specifiers resolved."""
        values = self.sections.get(section, {}).get(key, [])
        try:
            return [resolve_specifiers(value, self.name) for value in values]
        except ValueError as error:
            raise self.fail(section, key, str(error)) from None

    def raw(self, section: str, key: str) -> list[str]:
        """Every value, specifiers untouched: command lines resolve them word by word."""
        return self.sections.get(section, {}).get(key, [])

    def last(self, section: str, key: str, default: str = "") -> str:
        """The value that counts for a directive that can be given once."""
        values = self.every(section, key)
        return values[-1] if values else default

    def words(self, section: str, key: str) -> list[str]:
        """All values of a directive that takes a list, as one list."""
        return [word for value in self.every(section, key) for word in value.split()]

    def boolean(self, section: str, key: str, default: bool) -> bool:
        """Raises UnitError for what systemd does not take as a boolean."""
        value = self.last(section, key).lower()
        if value in {"1", "yes", "y", "true", "t", "on"}:
            return True
        if value in {"0", "no", "n", "false", "f", "off"}:
            return False
        if value:
            raise self.fail(section, key, f"{value!r} is not a boolean")
        return default

    def span(self, section: str, key: str, default: float) -> float:
        """Seconds; `infinity` is float infinity."""
        value = self.last(section, key)
        try:
            return parse_span(value) if value else default
        except ValueError as error:
            raise self.fail(section, key, str(error)) from None

    def integer(self, section: str, key: str, default: int, base: int = 10) -> int:
        """A whole number in the given base (8 for modes)."""
        value = self.last(section, key)
        try:
            return int(value, base) if value else default
        except ValueError:
            raise self.fail(section, key, f"{value!r} is not a number") from None

    def choice(self, section: str, key: str, allowed: tuple[str, ...]) -> str:
        """One of the allowed values; the first is the default."""
        value = self.last(section, key, allowed[0])
        if value not in allowed:
            raise self.fail(section, key, f"{value!r} is not supported by the sandbox ({', '.join(allowed)})")
        return value


def parse_span(text: str) -> float:
    """`1min 30s`, `500ms` or `5` (seconds) as seconds; raises ValueError."""
    if text == "infinity":
        return float("inf")
    total = 0.0
    rest = text.strip()
    while rest:
        match = re.match(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*", rest)
        if not match or match.group(2) not in _SPAN:
            raise ValueError(f"{text!r} is not a time span")
        total += float(match.group(1)) * _SPAN[match.group(2)]
        rest = rest[match.end() :]
    return total


def split_words(text: str) -> list[str]:
    """Split a command line as systemd does: quotes, C escapes, nothing of a shell.

    The word `\\;` stays as it is, since it differs from the separator `;`. Raises ValueError for an unclosed
    quote or an unknown escape.
    """
    words = []
    position = 0
    while rest := text[position:].lstrip():
        match = _WORD.match(rest)
        if not match:
            raise ValueError(f"a quote is never closed in {rest!r}")
        word = match.group()
        words.append(word if word == "\\;" else "".join(_piece(piece) for piece in _PIECE.findall(word)))
        position = len(text) - len(rest) + match.end()
    return words


def _piece(piece: str) -> str:
    return re.sub(r"\\(x\w\w|u\w{4}|.)", _escape, piece[1:-1] if piece[0] in "\"'" else piece)


def _escape(match: re.Match[str]) -> str:
    code = match.group(1)
    try:
        return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPES[code]
    except (KeyError, ValueError):
        raise ValueError(f"the escape \\{code} is unknown") from None


def find_fragment(layout: Layout, name: UnitName) -> Path | None:
    """The file a unit is defined in: its own, or its template's."""
    for candidate in (str(name), name.template):
        if candidate and ((layout.units / candidate).exists() or (layout.units / candidate).is_symlink()):
            return layout.units / candidate
    return None


def read_unit(layout: Layout, name: UnitName) -> UnitFile | None:
    """Read a unit with its drop-ins; None if there is no such file.

    Raises UnitError for a masked unit, a template without instance, or lines that are not unit syntax.
    """
    fragment = find_fragment(layout, name)
    if fragment is None:
        return None
    if fragment.is_symlink() and str(fragment.readlink()) == "/dev/null":
        raise UnitError(f"Unit {name} is masked.")
    if name.instance == "":
        raise UnitError(f"Unit {name} is a template: name an instance of it.")
    unit = UnitFile(name, fragment)
    _read_into(unit, fragment)
    dropins: dict[str, Path] = {}
    # From the least to the most specific: of two files with the same name only the last counts.
    for owner in (name.suffix, name.template, str(name)):
        if owner:
            dropins |= {path.name: path for path in (layout.units / f"{owner}.d").glob("*.conf")}
    for _, path in sorted(dropins.items()):
        _read_into(unit, path)
    return unit


def _read_into(unit: UnitFile, path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnitError(f"{path}: cannot be read: {error}") from None
    section = ""
    pending = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip()[:1] in {"#", ";"}:
            continue  # also between continued lines
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        line, pending = (pending + line).strip(), ""
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not section:
            raise UnitError(f"{path}:{number}: {line!r} is neither a [Section] nor a Name=value in one")
        unit.where[section, key] = f"{path}:{number}"
        values = unit.sections.setdefault(section, {}).setdefault(key, [])
        if value:
            values.append(value)
        else:
            values.clear()
