"""What coverage reports are read to: lines and branches by file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from apps.builds.parsers.errors import ReportRefused

PATH_LIMIT = 1_000  # characters
LINE_LIMIT = 1_000_000  # different lines that are held while a report is read; about 100 MB


@dataclass(frozen=True)
class FileCoverage:
    """How much of a source file the tests ran; branches are None where the report does not tell."""

    path: str
    lines_covered: int
    lines_total: int
    branches_covered: int | None = None
    branches_total: int | None = None


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


class Lines:
    """The lines of the files of a report that names one file, or one line, in several places.

    A line was run if it was run in any of them; of its branches the most that were taken count.
    """

    def __init__(self) -> None:
        self._files: dict[str, dict[int, tuple[bool, int, int]]] = {}
        self._count = 0

    def file(self, path: str) -> None:
        """A file is in the report, perhaps without a line."""
        self._files.setdefault(path[:PATH_LIMIT], {})

    def add(self, path: str, number: int, *, run: bool, taken: int = 0, branches: int = 0) -> None:
        """A line of a file; ReportRefused when there are too many."""
        lines = self._files.setdefault(path[:PATH_LIMIT], {})
        before = lines.get(number)
        if before is None:
            self._count += 1
            if self._count > LINE_LIMIT:
                raise ReportRefused(f"it has more than {LINE_LIMIT:,} lines")
            before = _PLAIN[False]
        found = (run or before[0], max(taken, before[1]), max(branches, before[2]))
        # Most lines have no branch, and share one value.
        lines[number] = _PLAIN[found[0]] if not found[2] and not found[1] else found

    def files(self) -> Iterator[FileCoverage]:
        """What has been added, in the order in which the files came."""
        for path, lines in self._files.items():
            yield FileCoverage(
                path,
                sum(line[0] for line in lines.values()),
                len(lines),
                sum(line[1] for line in lines.values()),
                sum(line[2] for line in lines.values()),
            )


_PLAIN = {False: (False, 0, 0), True: (True, 0, 0)}
