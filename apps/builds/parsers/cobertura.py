"""Cobertura's XML, as coverage.py, Istanbul, coverlet, gcovr, PHPUnit and many others write it.

Its DTD is coverage-04.dtd (https://cobertura.sourceforge.net/xml/coverage-04.dtd). Where readers of it
disagree, this one does the following.

- The lines count, not what the root declares: many tools write ``lines-valid`` of something else, such as of
  all that was compiled, and files are cut down after they were made.
- A line counts once in its file, however many classes and methods name it: nested and partial classes are
  classes of one file. It was run if it was run in any of them.
- A class's own ``lines`` count. Those of its methods are the same again, and count where it has none.
- Branches come from ``condition-coverage``, as in ``50% (1/2)``. A line that is a branch without saying how
  many were taken adds none.
"""

import re
from collections.abc import Iterator
from typing import IO

from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import PATH_LIMIT, FileCoverage, Lines
from apps.builds.parsers.xml import XmlReader

METHOD_LINE_LIMIT = 100_000  # lines that the methods of one class hold
_CONDITIONS = re.compile(r"\(\s*(\d{1,9})\s*/\s*(\d{1,9})\s*\)")


def coverage(stream: IO[bytes]) -> Iterator[FileCoverage]:
    """Yield each file of a Cobertura report; raise ReportRefused where it cannot be read on."""
    reader = _Reader()
    yield from reader.read(stream)
    yield from reader.lines.files()


class _Reader(XmlReader[FileCoverage]):
    def __init__(self) -> None:
        super().__init__()
        self.lines = Lines()
        self.path = ""
        self.in_method = False
        self.own_lines = False
        # Of the methods of a class: (number, run, taken, branches).
        self.of_methods: list[tuple[int, bool, int, int]] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "line":
            if self.path:
                self.line(attributes)
        elif tag == "class":
            self.path = (attributes.get("filename") or attributes.get("name") or "?")[:PATH_LIMIT]
            self.own_lines, self.of_methods = False, []
            self.lines.file(self.path)
        elif tag == "method":
            self.in_method = True
        elif self.depth == 1 and tag != "coverage":
            raise self.refusal(f"its root is <{tag[:80]}>, not <coverage>")

    def end(self, tag: str) -> None:
        if tag == "method":
            self.in_method = False
        elif tag == "class":
            if not self.own_lines:
                for number, run, taken, branches in self.of_methods:
                    self.add(number, run=run, taken=taken, branches=branches)
            self.path, self.of_methods = "", []

    def line(self, attributes: dict[str, str]) -> None:
        taken = branches = 0
        if found := _CONDITIONS.search(attributes.get("condition-coverage", "")):
            taken, branches = int(found[1]), int(found[2])
            if taken > branches:
                raise self.refusal(f"a line says that {taken} of {branches} branches were taken")
        number, run = self.number(attributes, "number"), self.number(attributes, "hits") > 0
        if not self.in_method:
            self.own_lines = True
            self.add(number, run=run, taken=taken, branches=branches)
        elif not self.own_lines:
            if len(self.of_methods) >= METHOD_LINE_LIMIT:
                raise self.refusal(f"a class has more than {METHOD_LINE_LIMIT:,} lines in its methods")
            self.of_methods.append((number, run, taken, branches))

    def add(self, number: int, *, run: bool, taken: int, branches: int) -> None:
        try:
            self.lines.add(self.path, number, run=run, taken=taken, branches=branches)
        except ReportRefused as error:
            raise self.refusal(error.cause) from None

    def number(self, attributes: dict[str, str], name: str) -> int:
        said = attributes.get(name, "").strip()
        try:
            # Some tools count more than an int of theirs holds, and write 1.2e10.
            return int(said) if len(said) < 20 and not set(said) & set(".eE") else int(float(said[:40]))
        except (ValueError, OverflowError):
            raise self.refusal(f"a line has {name}={said[:40]!r}, which is no number") from None
