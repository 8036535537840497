"""Clover's XML, as OpenClover, PHPUnit and Istanbul write it.

Its schema is clover.xsd (https://openclover.org/doc/manual/latest/general--xml-report.html). Where readers of
it disagree, this one does the following.

- Lines are statements, as Clover's own percentages have them; its ``line`` elements of type ``method`` are
  entries of methods and no statements. ``metrics`` of a file tell how many there are, and how many were run;
  a file without them is counted by its lines of type ``stmt`` and ``cond``.
- Branches are ``conditionals``: each condition has two.
- The project's ``metrics`` are the sum of its files and are not asked: a report that was cut down, or merged,
  keeps the old ones. Test code (``testproject``) does not count.
"""

from collections.abc import Iterator
from typing import IO

from apps.builds.parsers.file_coverage import PATH_LIMIT, FileCoverage
from apps.builds.parsers.xml import XmlReader

_METRICS = ("coveredstatements", "statements", "coveredconditionals", "conditionals")


def coverage(stream: IO[bytes]) -> Iterator[FileCoverage]:
    """Yield each file of a Clover report in order; raise ReportRefused where it cannot be read on."""
    return _Reader().read(stream)


class _Reader(XmlReader[FileCoverage]):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.path = ""
        self.metrics: list[int] | None = None
        # Of the file's line elements: (run, number of them, taken, branches).
        self.counted = [0, 0, 0, 0]

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        parent = self.open[-1] if self.open else ""
        self.open.append(tag)
        if self.depth == 1 and tag != "coverage":
            raise self.refusal(f"its root is <{tag[:80]}>, not <coverage>")
        if tag == "file":
            self.path = (attributes.get("path") or attributes.get("name") or "?")[:PATH_LIMIT]
            self.metrics, self.counted = None, [0, 0, 0, 0]
        elif tag == "metrics" and parent == "file" and "statements" in attributes:
            self.metrics = [self.number(attributes, name) for name in _METRICS]
        elif tag == "line" and self.path:
            self.line(attributes)

    def end(self, tag: str) -> None:
        self.open.pop()
        if tag != "file":
            return
        covered, total, taken, branches = self.metrics or self.counted
        if covered > total or taken > branches:
            raise self.refusal(f"more of {self.path} was run than there is of it")
        if "testproject" not in self.open:
            self.found.append(FileCoverage(self.path, covered, total, taken, branches))
        self.path = ""

    def line(self, attributes: dict[str, str]) -> None:
        kind = attributes.get("type", "stmt")
        if kind == "cond":
            ways = [self.number(attributes, name) for name in ("truecount", "falsecount")]
            self.counted[2] += sum(way > 0 for way in ways)
            self.counted[3] += 2
            self.counted[0] += any(ways) or self.number(attributes, "count") > 0
            self.counted[1] += 1
        elif kind == "stmt":
            self.counted[0] += self.number(attributes, "count") > 0
            self.counted[1] += 1

    def number(self, attributes: dict[str, str], name: str) -> int:
        said = attributes.get(name, "0").strip()
        if not said.isascii() or not said.isdigit() or len(said) > 19:
            raise self.refusal(f"{name} is {said[:40]!r}, which is no count")
        return int(said)
