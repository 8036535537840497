"""What a linter found: where it is, what happens because of it, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

ERROR, WARNING = "error", "warning"


class Placed(Protocol):
    """Whatever has a place in a file, counted from 1."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


@dataclass(frozen=True)
class Place:
    """A place in a file, counted from 1."""

    line: int = 1
    column: int = 1


@dataclass(frozen=True)
class Finding:
    """One thing that AWS refuses (an error), or accepts and does not do as it reads (a warning)."""

    severity: str
    code: str
    line: int
    column: int
    message: str
    mend: str
    words: str = ""  # AWS's own, where it has some

    def as_text(self, file: str) -> str:
        """One line, in the form that editors jump to."""
        place = f"{file}:{self.line}:{self.column}"
        return f"{place}: {self.severity}: {self.message} Mend: {self.mend} [{self.code}]"

    def as_json(self) -> dict[str, str | int]:
        return {
            "line": self.line,
            "column": self.column,
            "code": self.code,
            "message": self.message,
            "mend": self.mend,
        }


class Findings:
    """Collects findings in the order in which AWS would come upon them."""

    def __init__(self) -> None:
        self._found: list[Finding] = []

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self._found if finding.severity == ERROR]

    def error(self, code: str, at: Placed, message: str, mend: str, *, words: str = "") -> None:
        self._found.append(Finding(ERROR, code, at.line, at.column, message, mend, words))

    def warn(self, code: str, at: Placed, message: str, mend: str) -> None:
        self._found.append(Finding(WARNING, code, at.line, at.column, message, mend))

    def extend(self, findings: Iterable[Finding]) -> None:
        self._found.extend(findings)


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or nothing."""
    by_form = {_form(name): name for name in known}
    if match := by_form.get(_form(word)):
        return match
    matches = difflib.get_close_matches(_form(word), by_form, n=1, cutoff=0.75)
    return by_form[matches[0]] if matches else ""


def _form(word: str) -> str:
    # A stray backslash, spaces, and the three ways to join words.
    return word.strip("\\ \t").replace("-", "").replace("_", "").casefold()


def quoted(text: str, limit: int = 60) -> str:
    """A text of the file as it stands there, short enough for a message and on one line."""
    text = "".join(char if char.isprintable() else " " for char in text)
    return f"'{text if len(text) <= limit else text[: limit - 1] + '…'}'"
