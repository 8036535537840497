"""Read test and coverage reports as the gate reads them, and tell what a build covered."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from apps.builds.coverage import Comparison, compare_coverage, coverage_report, percent
from apps.builds.models import Build
from apps.builds.parsers import FORMATS
from apps.builds.summary import SIZE_LIMIT, Summary, summarise, tests
from apps.commands import DomainCommand
from apps.errors import NotFound

COLUMNS = ("tests", "passed", "failed", "errors", "skipped")


class Command(DomainCommand):
    help = (
        "Read test and coverage reports as the gate reads them. `parse` tells what report files hold, and "
        "needs no database; it ends with 1 if any file was refused. `coverage` tells how much of each file "
        "the tests of a build ran, and how that changed against another build."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        parse = commands.add_parser("parse", help="tell what report files hold")
        parse.add_argument("files", nargs="+", metavar="FILE")
        parse.add_argument(
            "--format",
            type=str.upper,
            choices=FORMATS,
            metavar="FORMAT",
            default="",
            help="what the files have to be, as in a buildspec's file-format; otherwise their content tells. "
            f"One of {', '.join(FORMATS)}",
        )
        parse.add_argument(
            "--max-mib",
            type=int,
            default=SIZE_LIMIT >> 20,
            metavar="MIB",
            help="how large a file may be, in MiB (%(default)s)",
        )
        parse.add_argument("--json", action="store_true", help="print one JSON object per file and line")
        covered = commands.add_parser("coverage", help="tell how much of each file the tests of a build ran")
        covered.add_argument("build", metavar="BUILD", help="an id, or CodeBuild's: project:uuid")
        covered.add_argument(
            "--report", default="", metavar="NAME", help="needed where the build has several of coverage"
        )
        covered.add_argument("--against", metavar="BUILD", help="another build of the service")
        covered.add_argument(
            "--order",
            choices=("path", "change", "missed"),
            default="path",
            help="by path; what lost most first; or what has most lines that no test ran first (%(default)s)",
        )
        covered.add_argument(
            "--changed", action="store_true", help="leave out files that are the same in both"
        )
        covered.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: object, **options: Any) -> None:
        if options["command"] == "coverage":
            self._coverage(options)
        else:
            self._parse(options)

    def _coverage(self, options: dict[str, Any]) -> None:
        against = _build(options["against"]) if options["against"] else None
        report = coverage_report(_build(options["build"]), options["report"])
        comparison = compare_coverage(report, against)
        files = comparison.ordered(options["order"], changed=options["changed"])
        if options["json"]:
            listed = {"files": [file.to_json() for file in files]}
            self.stdout.write(json.dumps(comparison.to_json() | listed))
            return
        self.stdout.write(_whole(comparison))
        for file in files:
            lines = f"{file.now.lines_covered:,}/{file.now.lines_total:,}" if file.now else "gone"
            change = "" if file.change is None else f"{file.change:+.2f}"
            share = percent(file.now)
            told = "" if share is None else f"{share:.2f} %"
            self.stdout.write(f"{lines:>15}{told:>10}{change:>9}  {printable(file.path)}")

    def _parse(self, options: dict[str, Any]) -> None:
        refused = False
        if not options["json"]:
            self.stdout.write(_row("FORMAT", *(name.upper() for name in COLUMNS), "FILE"))
        for path in options["files"]:
            summary = summarise(path, declared=options["format"], limit=options["max_mib"] << 20)
            refused = refused or summary.error is not None
            if options["json"]:
                self.stdout.write(json.dumps(summary.as_dict()))
            else:
                self._tell(summary)
        if refused:
            sys.exit(1)

    def _tell(self, summary: Summary) -> None:
        file = printable(summary.file)
        if summary.error is None:
            if summary.counts is not None:
                numbers = (f"{summary.counts[name]:,}" for name in COLUMNS)
                self.stdout.write(_row(summary.format or "", *numbers, file))
            if summary.coverage is not None:
                self.stdout.write(f"{summary.format or '':<16}{_covered(summary.coverage):<45}  {file}")
        for warning in summary.warnings:
            self.stdout.write(f"{file}: warning: {printable(warning)}")
        if summary.error is not None:
            read = f"; {tests(summary.counts['tests'])} read before that" if summary.counts else ""
            self.stdout.write(f"{file}: error: {printable(summary.error)}{read}")


def _build(name: str) -> Build:
    by = {"pk": name} if name.isascii() and name.isdigit() and len(name) < 19 else {"codebuild_id": name}
    build = Build.objects.filter(**by).first()
    if build is None:
        raise NotFound(f"There is no build {name}: give its id, or CodeBuild's (project:uuid).")
    return build


def _whole(comparison: Comparison) -> str:
    now, share = comparison.now, percent(comparison.now)
    told = f"{comparison.report.build} {comparison.report.name}: "
    told += f"{now.lines_covered:,} of {now.lines_total:,} lines"
    told += "" if share is None else f" ({share:.2f} %)"
    if comparison.against:
        change = "" if comparison.change is None else f"{comparison.change:+.2f} points "
        told += f", {change}against {comparison.against.build}"
    return told


def printable(text: str) -> str:
    """A text from a file, without what could steer a terminal."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _row(format_name: str, *cells: str) -> str:
    *numbers, file = cells
    return f"{format_name:<16}{''.join(f'{number:>9}' for number in numbers)}  {file}"


def _covered(coverage: dict[str, int]) -> str:
    parts = []
    for noun in ("lines", "branches"):
        if total := coverage.get(f"{noun}_total"):
            covered = coverage[f"{noun}_covered"]
            parts.append(f"{noun} {covered:,}/{total:,} ({100 * covered / total:.1f} %)")
    return ", ".join(parts)
