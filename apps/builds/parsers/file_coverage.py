"""What coverage reports are read to: lines and branches by file."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from apps.builds.parsers.errors import ReportRefused

PATH_LIMIT = 1_000  # characters
FILE_LIMIT = 100_000  # different files in one report
NAMES_LIMIT = 16 << 20  # characters of their names in all
COUNT_LIMIT = 10**12  # lines and branches in one report: more than there are, and a number to everybody
# The lines that are held while a report is read: the highest number in each file, added up. One takes a byte,
# and nine in a file with branches.
LINE_LIMIT = 4_000_000
# Numbers beyond this are marks rather than lines, such as 0xFEEFEE of .NET, and there are few of them.
NUMBER_LIMIT = 1_000_000
MARK_LIMIT = 10_000


@dataclass(frozen=True)
class FileCoverage:
    """How much of a source file the tests ran; branches are None where the report does not tell."""

    path: str
    lines_covered: int
    lines_total: int
    branches_covered: int | None = None
    branches_total: int | None = None

    def plus(self, other: "FileCoverage") -> "FileCoverage":
        """This file with what else is told of it."""
        both = add_up([self, other])
        return FileCoverage(
            self.path, both.lines_covered, both.lines_total, both.branches_covered, both.branches_total
        )


@dataclass(frozen=True)
class Coverage:
    """The sum over files; branches are None where no file tells of them."""

    files: int
    lines_covered: int
    lines_total: int
    branches_covered: int | None
    branches_total: int | None


def add_up(files: Iterable[FileCoverage]) -> Coverage:
    """Sum files up."""
    count = covered = total = branches_covered = branches_total = 0
    told = False
    for file in files:
        count += 1
        covered += file.lines_covered
        total += file.lines_total
        if file.branches_total is not None:
            told = True
            branches_covered += file.branches_covered or 0
            branches_total += file.branches_total
    return Coverage(
        count, covered, total, branches_covered if told else None, branches_total if told else None
    )


class Names:
    """The names of the files of one report, which are what grows with it."""

    def __init__(self) -> None:
        self._count = self._characters = 0

    def add(self, path: str) -> None:
        """Count a name that is new; ReportRefused when there are too many."""
        self._count += 1
        self._characters += len(path)
        if self._count > FILE_LIMIT:
            raise ReportRefused(f"it tells of more than {FILE_LIMIT:,} files")
        if self._characters > NAMES_LIMIT:
            raise ReportRefused(f"the names of its files have more than {NAMES_LIMIT:,} characters in all")


class Table:
    """The files of a report, by name.

    Lines of files of the same name add up, also where several raw files tell of it: what all of them ran
    together is not known without each line, and is no smaller a share than this.
    """

    def __init__(self) -> None:
        self._files: dict[str, FileCoverage] = {}
        self._names = Names()
        self._counted = 0

    def add(self, file: FileCoverage) -> None:
        """Count a file; ReportRefused when there are too many, or more lines than can be."""
        # JSON can hold half a surrogate pair, which is no text.
        path = file.path.encode("utf-8", "replace").decode()
        before = self._files.get(path)
        if before is None:
            self._names.add(path)
            before = FileCoverage(path, 0, 0)
        self._files[path] = before.plus(file)
        self._counted += file.lines_total + (file.branches_total or 0)
        if self._counted > COUNT_LIMIT:
            raise ReportRefused(f"it counts more than {COUNT_LIMIT:,} lines and branches")

    def files(self) -> list[FileCoverage]:
        """Each file once, by name."""
        return [self._files[path] for path in sorted(self._files)]

    def sum(self) -> Coverage:
        """What all files hold together."""
        return add_up(self._files.values())


class Lines:
    """The lines of the files of a report that names one file, or one line, in several places.

    A line was run if it was run in any of them; of its branches the most that were taken count.
    """

    def __init__(self) -> None:
        self._files: dict[str, _FileLines] = {}
        self._names = Names()
        self._count = self._marks = 0

    def file(self, path: str) -> "_FileLines":
        """A file is in the report, perhaps without a line; ReportRefused when there are too many."""
        path = path[:PATH_LIMIT]
        if path not in self._files:
            self._names.add(path)
            self._files[path] = _FileLines()
        return self._files[path]

    def add(self, path: str, number: int, *, run: bool, taken: int = 0, branches: int = 0) -> None:
        """A line of a file; ReportRefused when there are too many."""
        file = self.file(path)
        if 0 <= number < NUMBER_LIMIT:
            self._count += file.add(number, run, taken, branches)
        else:
            self._marks += file.mark(number, run, taken, branches)
        if self._count > LINE_LIMIT or self._marks > MARK_LIMIT:
            raise ReportRefused(f"it has more than {LINE_LIMIT:,} lines")

    def files(self) -> Iterator[FileCoverage]:
        """What has been added, in the order in which the files came."""
        for path, file in self._files.items():
            yield file.sum(path)


class _FileLines:
    """The lines of one file, by number."""

    __slots__ = ("branches", "marks", "runs", "taken")

    def __init__(self) -> None:
        self.runs = bytearray()  # 0: no line  1: not run  2: run
        # About as long as that, once a line has branches.
        self.taken, self.branches = array("I"), array("I")
        self.marks: dict[int, tuple[bool, int, int]] = {}

    def add(self, number: int, run: bool, taken: int, branches: int) -> int:
        """Note a line; return by how many lines this has grown."""
        grown = number + 1 - len(self.runs)
        if grown > 0:
            self.runs.extend(bytes(grown))
        if run:
            self.runs[number] = 2
        elif not self.runs[number]:
            self.runs[number] = 1
        if branches:
            if number >= len(self.branches):
                for ways in (self.taken, self.branches):
                    # Some lines ahead, so that it is not done for each.
                    ways.frombytes(bytes(ways.itemsize * (number + 64 - len(ways))))
            self.taken[number] = max(self.taken[number], taken)
            self.branches[number] = max(self.branches[number], branches)
        return max(0, grown)

    def mark(self, number: int, run: bool, taken: int, branches: int) -> int:
        """Note what has no line's number; return by how many this has grown."""
        known = self.marks.get(number)
        before = known or (False, 0, 0)
        self.marks[number] = (run or before[0], max(taken, before[1]), max(branches, before[2]))
        return known is None

    def sum(self, path: str) -> FileCoverage:
        marks = self.marks.values()
        return FileCoverage(
            path,
            self.runs.count(2) + sum(mark[0] for mark in marks),
            len(self.runs) - self.runs.count(0) + len(marks),
            sum(self.taken) + sum(mark[1] for mark in marks),
            sum(self.branches) + sum(mark[2] for mark in marks),
        )
