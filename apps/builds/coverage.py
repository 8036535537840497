"""Coverage by file: how it is kept, and how it changed against another build."""

import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from apps.builds.models import Build, CoveredFiles, Report
from apps.builds.parsers.file_coverage import Coverage, FileCoverage
from apps.errors import Invalid, NotFound

COVERAGE = "CODE_COVERAGE"


@dataclass(frozen=True)
class FileChange:
    """A source file in a coverage report and in the one that it is compared with; at least one has it."""

    path: str
    now: FileCoverage | None
    before: FileCoverage | None

    @property
    def change(self) -> float | None:
        """By how many percentage points its line coverage changed; None where one of both has no line."""
        return _points(self.now, self.before)

    def to_json(self) -> dict[str, Any]:
        """As the API and ``reports coverage --json`` give it."""
        return {
            "path": self.path,
            "now": counts(self.now),
            "before": counts(self.before),
            "change": self.change,
        }


@dataclass(frozen=True)
class Comparison:
    """A coverage report by file, beside that of another build if there is one to compare with."""

    report: Report
    against: Report | None
    files: list[FileChange]

    @property
    def now(self) -> Coverage:
        return _whole(self.report)

    @property
    def before(self) -> Coverage | None:
        return _whole(self.against) if self.against else None

    @property
    def change(self) -> float | None:
        """By how many percentage points the line coverage of the whole changed."""
        return _points(self.now, self.before)

    def to_json(self) -> dict[str, Any]:
        """As the API and ``reports coverage --json`` give it, without the files."""
        return {
            "build": self.report.build_id,
            "report": self.report.name,
            "against": self.against.build_id if self.against else None,
            "now": counts(self.now),
            "before": counts(self.before),
            "change": self.change,
        }

    def ordered(self, order: str, *, changed: bool = False) -> list[FileChange]:
        """The files by ``path``, by ``change`` (what lost most comes first) or by ``missed`` lines.

        ``changed`` leaves out those that are the same in both.
        """
        keys: dict[str, Any] = {
            "path": lambda file: file.path,
            "change": lambda file: (file.change is None, file.change or 0, -_missed(file.now), file.path),
            "missed": lambda file: (-_missed(file.now), file.path),
        }
        files = [file for file in self.files if file.now != file.before] if changed else self.files
        return sorted(files, key=keys[order])


def percent(of: Coverage | FileCoverage | None) -> float | None:
    """The share of lines that were run, for people; None where there are none. Gates compare whole lines."""
    return None if of is None else share(of.lines_covered, of.lines_total)


def share(part: int, whole: int) -> float | None:
    """Of a hundred, rounded down, so that 100 means all of them; None of nothing."""
    return part * 10_000 // whole / 100 if whole else None


def counts(of: Coverage | FileCoverage | None) -> dict[str, Any] | None:
    """Counters of a file or of a report as plain values."""
    if of is None:
        return None
    names = ("lines_covered", "lines_total", "branches_covered", "branches_total")
    told = asdict(of)
    return {name: told[name] for name in names} | {"percent": percent(of)}


def coverage_report(build: Build, name: str = "") -> Report:
    """The coverage report of a build; the name is needed where it has several.

    Raises NotFound where there is none of that name, and Invalid where there are several.
    """
    reports = {report.name: report for report in build.reports.filter(type=COVERAGE).order_by("name")}
    there = ", ".join(reports) or "none"
    if name and name not in reports:
        raise NotFound(f"Build {build.pk} has no coverage report {name!r}; it has {there}.")
    if not reports:
        raise NotFound(f"Build {build.pk} has no coverage report.")
    if not name and len(reports) > 1:
        raise Invalid(f"Build {build.pk} has several coverage reports, so name one as report: {there}.")
    return reports[name] if name else next(iter(reports.values()))


def compare_coverage(report: Report, against: Build | Report | None = None) -> Comparison:
    """A report by file, beside the one of the same name of another build of the service.

    Raises NotFound where either is not there, or could not be read; the text says why.
    """
    if isinstance(against, Build):
        if against.service_id != report.build.service_id:
            raise Invalid(f"Build {against.pk} is of another service, so there is nothing to compare.")
        against = coverage_report(against, report.name)
    wanted = [report, against] if against else [report]
    rows = CoveredFiles.objects.filter(report__in=wanted).values_list("report", "packed")
    files = {key: unpack(packed) for key, packed in rows}
    for each in wanted:
        if each.pk not in files:
            pruned = f"they were pruned on {each.pruned_at:%Y-%m-%d}" if each.pruned_at else ""
            why = each.problem or pruned or "it was read before files were kept"
            raise NotFound(f"Of {each.name} of build {each.build_id} no files are known: {why}.")
    return Comparison(report, against, _changes(files[report.pk], files[against.pk] if against else []))


def earlier_report(report: Report) -> Report | None:
    """The last one of the same name before it, of the same service, whose files are known."""
    earlier = Report.objects.filter(
        build__service=report.build.service_id, build__lt=report.build_id, name=report.name, type=COVERAGE
    )
    return earlier.filter(covered_files__isnull=False).order_by("-build_id").first()


def pack(files: Iterable[FileCoverage]) -> bytes:
    """Files as the database keeps them."""
    rows: list[tuple[Any, ...]] = [
        (file.path, file.lines_covered, file.lines_total, file.branches_covered, file.branches_total)
        for file in files
    ]
    return zlib.compress(json.dumps(rows, separators=(",", ":")).encode())


def unpack(packed: bytes | memoryview) -> list[FileCoverage]:
    """The files that ``pack`` was given."""
    return [FileCoverage(*row) for row in json.loads(zlib.decompress(packed))]


def _changes(now: Iterable[FileCoverage], before: Iterable[FileCoverage]) -> list[FileChange]:
    ours, theirs = {file.path: file for file in now}, {file.path: file for file in before}
    return [FileChange(path, ours.get(path), theirs.get(path)) for path in sorted(ours.keys() | theirs)]


def _whole(report: Report) -> Coverage:
    return Coverage(
        0,
        report.lines_covered or 0,
        report.lines_total or 0,
        report.branches_covered,
        report.branches_total,
    )


def _points(now: Coverage | FileCoverage | None, before: Coverage | FileCoverage | None) -> float | None:
    if now is None or before is None or not now.lines_total or not before.lines_total:
        return None
    return round(100 * (now.lines_covered / now.lines_total - before.lines_covered / before.lines_total), 2)


def _missed(file: FileCoverage | None) -> int:
    return file.lines_total - file.lines_covered if file else 0
