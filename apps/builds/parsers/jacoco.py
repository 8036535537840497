"""JaCoCo's XML, also written by Kover, Pester and others.

Its DTD is report.dtd (https://www.jacoco.org/jacoco/trunk/coverage/report.dtd). Where readers of it disagree,
this one does the following.

- A source file's ``LINE`` counter counts; one without is counted by its ``line`` elements. A line was run if
  any of its instructions was (``ci``), as in JaCoCo's own counters.
- A package without source files, as there are no debug symbols, is counted by the counters of its classes.
- The counters of the report, its groups and packages are sums of these and are not asked.
- Branches are ``BRANCH`` counters, or ``mb`` and ``cb`` of the lines.
"""

from collections.abc import Iterator
from typing import IO

from apps.builds.parsers.file_coverage import PATH_LIMIT, FileCoverage
from apps.builds.parsers.xml import XmlReader


def coverage(stream: IO[bytes]) -> Iterator[FileCoverage]:
    """Yield each source file of a JaCoCo report in order; raise ReportRefused where it cannot be read on."""
    return _Reader().read(stream)


class _Reader(XmlReader[FileCoverage]):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.package = ""
        self.name = ""
        # Of the open class or source file, by type: (covered, total).
        self.counters: dict[str, tuple[int, int]] = {}
        self.lines = [0, 0, 0, 0]
        self.classes: list[FileCoverage] = []
        self.has_sources = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        parent = self.open[-1] if self.open else ""
        self.open.append(tag)
        if tag == "line" and parent == "sourcefile":
            covered, missed_branches, taken = (self.number(attributes, name) for name in ("ci", "mb", "cb"))
            self.lines[0] += covered > 0
            self.lines[1] += 1
            self.lines[2] += taken
            self.lines[3] += taken + missed_branches
        elif tag == "counter" and parent in ("sourcefile", "class"):
            covered, missed = self.number(attributes, "covered"), self.number(attributes, "missed")
            self.counters[attributes.get("type", "")] = (covered, covered + missed)
        elif tag in ("sourcefile", "class"):
            self.name = attributes.get("name", "?")
            self.counters, self.lines = {}, [0, 0, 0, 0]
        elif tag == "package":
            self.package = attributes.get("name", "")
            self.classes, self.has_sources = [], False
        elif self.depth == 1 and tag != "report":
            raise self.refusal(f"its root is <{tag[:80]}>, not <report>")

    def end(self, tag: str) -> None:
        self.open.pop()
        if tag == "sourcefile":
            self.has_sources = True
            path = f"{self.package}/{self.name}" if self.package else self.name
            self.found.append(self.measured(path))
        elif tag == "class":
            if not self.has_sources:
                self.classes.append(self.measured(self.name))
        elif tag == "package":
            if not self.has_sources:
                self.found += self.classes
            self.classes = []

    def measured(self, path: str) -> FileCoverage:
        covered, total = self.counters.get("LINE", (self.lines[0], self.lines[1]))
        taken, branches = self.counters.get("BRANCH", (self.lines[2], self.lines[3]))
        return FileCoverage(path[:PATH_LIMIT], covered, total, taken, branches)

    def number(self, attributes: dict[str, str], name: str) -> int:
        said = attributes.get(name, "0").strip()
        if not said.isascii() or not said.isdigit() or len(said) > 19:
            raise self.refusal(f"{name} is {said[:40]!r}, which is no count")
        return int(said)
