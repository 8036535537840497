"""Read test and coverage reports as the gate reads them."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from apps.builds.parsers import FORMATS
from apps.builds.summary import SIZE_LIMIT, Summary, summarise, tests

COLUMNS = ("tests", "passed", "failed", "errors", "skipped")


class Command(BaseCommand):
    help = (
        "Read test and coverage reports as the gate reads them. `parse` tells what report files hold, and "
        "needs no database. Ends with 1 if any file was refused."
    )
    requires_system_checks = []

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

    def handle(self, *args: object, **options: Any) -> None:
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
