"""SimpleCov's JSON: ``.resultset.json``, and ``coverage.json`` of its JSON formatter.

https://github.com/simplecov-ruby/simplecov has the code that decides where this one had to choose:

- ``null`` and ``"ignored"`` are lines that do not count; every other number is how often a line was run.
- ``.resultset.json`` has a result for each command, such as RSpec and Cucumber, of the same files. They are
  merged: a line was run if any command ran it, and counts if it counts in any. (SimpleCov itself leaves out a
  line that one command did not run and another does not count; such a line is code that no test ran.)
- Before version 0.18 a file is its list of lines; since then an object with ``lines`` and perhaps
  ``branches``. Of branches the most that any command took count.
"""

from collections.abc import Iterator
from typing import IO, Any

from apps.builds.parsers.file_coverage import LINE_LIMIT, PATH_LIMIT, FileCoverage, Names
from apps.builds.parsers.json_stream import JsonReader

# Of coverage.json, beside "coverage".
_ABOUT = frozenset({"$schema", "meta", "groups", "total", "errors", "timestamp"})
# A line in one byte, so that memory does not grow with what counts hold; of two the larger is what both say.
_NONE, _MISSED, _RUN = 0, 1, 2


def coverage(stream: IO[bytes]) -> Iterator[FileCoverage]:
    """Yield each file of a SimpleCov report; raise ReportRefused where it cannot be read on."""
    reader = _Reader(stream)
    reader.read()
    yield from reader.files()


class _Reader:
    def __init__(self, stream: IO[bytes]) -> None:
        self.json = JsonReader(stream)
        self.lines: dict[str, bytes] = {}
        self.branches: dict[str, tuple[int, int]] = {}
        self.names = Names()
        self.room = LINE_LIMIT

    def read(self) -> None:
        found = False
        for key in self.json.members():
            if key == "coverage":
                found = True
                self.coverage()
            elif key in _ABOUT or self.json.peek() != "{":
                self.json.skip()
            else:
                for part in self.json.members():
                    if part == "coverage":
                        found = True
                        self.coverage()
                    else:
                        self.json.skip()
        self.json.finish()
        if not found:
            raise self.json.refusal('it has no "coverage"')

    def coverage(self) -> None:
        for name in self.json.members():
            path = name[:PATH_LIMIT]
            if path not in self.lines:
                self.names.add(path)
            if self.json.peek() == "[":
                self.add(path, self.json.value())
                continue
            lines: Any = None
            for part in self.json.members():
                if part == "lines":
                    lines = self.json.value()
                elif part == "branches":
                    self.add_branches(path, self.json.value())
                else:
                    self.json.skip()
            if lines is not None:
                self.add(path, lines)

    def add(self, path: str, lines: Any) -> None:
        if not isinstance(lines, list):
            raise self.json.refusal(f"the lines of {path} are not a list")
        found = bytes(map(self.line, lines))
        before = self.lines.get(path)
        if before:
            size = max(len(before), len(found))
            found = bytes(map(max, before.ljust(size, b"\0"), found.ljust(size, b"\0")))
        self.lines[path] = found
        self.room -= max(0, len(found) - len(before or b""))
        if self.room < 0:
            raise self.json.refusal(f"it has more than {LINE_LIMIT:,} lines")

    def line(self, count: Any) -> int:
        if count is None or count == "ignored":
            return _NONE
        if type(count) not in (int, float) or count != count:
            raise self.json.refusal(f"a line was run {str(count)[:40]!r} times, which is no number")
        return _RUN if count > 0 else _MISSED

    def add_branches(self, path: str, branches: Any) -> None:
        """Of .resultset.json: {condition: {branch: count}}; of coverage.json: [{"coverage": count}]."""
        if isinstance(branches, dict):
            counts = [
                count for each in branches.values() if isinstance(each, dict) for count in each.values()
            ]
        elif isinstance(branches, list):
            counts = [each.get("coverage") for each in branches if isinstance(each, dict)]
        else:
            return
        found = [self.line(count) for count in counts]
        total = len(found) - found.count(_NONE)
        before = self.branches.get(path, (0, 0))
        self.branches[path] = (max(before[0], found.count(_RUN)), max(before[1], total))

    def files(self) -> Iterator[FileCoverage]:
        for path, lines in self.lines.items():
            run = lines.count(_RUN)
            taken, branches = self.branches.get(path, (None, None))
            yield FileCoverage(path, run, run + lines.count(_MISSED), taken, branches)
