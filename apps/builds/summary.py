"""What one report file says, in numbers: what ``manage.py reports parse`` tells."""

import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from apps.builds import parsers
from apps.builds.parsers.case import Outcome
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import add_up

SIZE_LIMIT = 64 << 20  # bytes of a file; such a one is read in about two seconds


@dataclass
class Summary:
    """A report file as it was read, up to the ``error`` that ended it if there is one."""

    file: str
    format: str | None = None
    counts: dict[str, int] | None = None
    coverage: dict[str, int] | None = None
    warnings: list[str] = field(default_factory=list)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without what there is not."""
        told: dict[str, Any] = {"file": self.file, "format": self.format}
        if self.counts is not None:
            told["counts"] = self.counts
        if self.coverage is not None:
            told["coverage"] = self.coverage
        told["warnings"] = self.warnings
        if self.error is not None:
            told["error"] = self.error
        return told


def summarise(path: str, *, declared: str = "", limit: int = SIZE_LIMIT) -> Summary:
    """Read a report file and sum it up. Never raises for what is wrong with the file: that is its ``error``.

    Counts of a file with an error are those of what could be read before it.
    """
    summary = Summary(path)
    try:
        with _opened(path, limit) as stream:
            found = parsers.recognise(stream, declared)
            summary.format = found.name
            if found.is_coverage:
                _add_coverage(summary, found, stream)
            else:
                _add_cases(summary, found, stream)
    except ReportRefused as error:
        summary.error = str(error)
    except OSError as error:
        summary.error = error.strerror or str(error)
    return summary


def _add_cases(summary: Summary, found: parsers.Format, stream: IO[bytes]) -> None:
    outcomes: Counter[Outcome] = Counter()
    rerun = flaky = 0
    try:
        for case in found.cases(stream):
            outcomes[case.outcome] += 1
            if case.attempts:
                rerun += 1
                flaky += case.flaky
    finally:
        summary.counts = {
            "tests": outcomes.total(),
            "passed": outcomes[Outcome.PASSED],
            "failed": outcomes[Outcome.FAILED],
            "errors": outcomes[Outcome.ERROR],
            "skipped": outcomes[Outcome.SKIPPED],
        }
    if not outcomes:
        summary.warnings.append("it lists no test case")
    if unknown := outcomes[Outcome.UNKNOWN]:
        summary.warnings.append(f"of {tests(unknown)} it does not say how they ended")
    if rerun:
        summary.warnings.append(f"{tests(rerun)} ran more than once, and {flaky:,} both failed and passed")


def _add_coverage(summary: Summary, found: parsers.Format, stream: IO[bytes]) -> None:
    summed = add_up(found.coverage(stream))
    summary.coverage = {"lines_covered": summed.lines_covered, "lines_total": summed.lines_total}
    if summed.branches_covered is not None and summed.branches_total is not None:
        summary.coverage |= {
            "branches_covered": summed.branches_covered,
            "branches_total": summed.branches_total,
        }
    if not summed.lines_total:
        summary.warnings.append("it tells of no line")


def _opened(path: str, limit: int) -> IO[bytes]:
    # Asked before it is opened: to open a pipe that nobody writes to would wait for ever.
    status = Path(path).stat()
    if stat.S_ISDIR(status.st_mode):
        raise ReportRefused("it is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ReportRefused("it is a pipe or a device, not a file")
    if status.st_size > limit:
        raise ReportRefused(f"it has {status.st_size:,} bytes, and at most {limit:,} are read")
    return Path(path).open("rb")


def tests(number: int) -> str:
    """A number of tests in words."""
    return "1 test" if number == 1 else f"{number:,} tests"
