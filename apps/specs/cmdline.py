"""What lint_appspec and lint_buildspec share: read files, tell what was found, end with a code."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from .document import MAX_BYTES
from .findings import ERROR
from .lint import Report, unreadable

STDIN = "-"


class LintCommand(BaseCommand):
    """Lint files. Ends with 0, with 1 if any file has an error, with 2 if any could not be read."""

    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="a file to read; - is standard input")
        parser.add_argument("--json", action="store_true", help="print one JSON object per file and line")

    def lint(self, data: bytes, name: str, options: dict[str, Any]) -> Report:
        """Lint the content of one file."""
        raise NotImplementedError

    def handle(self, *args: object, **options: Any) -> None:
        code = 0
        for name in options["files"]:
            try:
                report = self.lint(_read(name), name, options)
                code = max(code, 0 if report.ok else 1)
            except OSError as error:
                report, code = unreadable(name, error.strerror or str(error)), 2
            self._tell(report, as_json=options["json"])
        if code:
            sys.exit(code)

    def _tell(self, report: Report, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(report.as_json())
            return
        for line in report.as_text():
            self.stdout.write(line)
        errors, warnings = len(report.of(ERROR)), len(report.findings) - len(report.of(ERROR))
        if report.findings:
            self.stdout.write(f"{report.file}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
        else:
            self.stdout.write(f"{report.file}: ok")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _read(name: str) -> bytes:
    """A file, or so much of it as shows that it is too large, such as of /dev/zero."""
    if name == STDIN:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with Path(name).open("rb") as file:
        return file.read(MAX_BYTES + 1)
