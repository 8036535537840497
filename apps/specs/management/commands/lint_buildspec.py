"""Find what CodeBuild refuses in a buildspec, and what it accepts without doing it."""

from typing import Any

from apps.specs.cmdline import LintCommand
from apps.specs.lint import Report, lint_buildspec


class Command(LintCommand):
    help = (
        "Lint buildspecs: what CodeBuild refuses is an error, what it accepts and does not do as it reads a "
        "warning, each with its place and how to mend it. No database. Ends with 1 if there is an error, "
        "with 2 "
        "if a file cannot be read."
    )

    def lint(self, data: bytes, name: str, options: dict[str, Any]) -> Report:
        return lint_buildspec(data, name)
