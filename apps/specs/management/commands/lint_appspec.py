"""Find what CodeDeploy refuses in an appspec, and what it accepts without doing it."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from apps.specs.cmdline import LintCommand
from apps.specs.lint import Report, lint_appspec


class Command(LintCommand):
    help = (
        "Lint appspecs, for servers, ECS or Lambda, in YAML or JSON: what CodeDeploy refuses is an error, "
        "what it "
        "accepts and does not do as it reads a warning, each with its place and how to mend it. No database. "
        "Ends with 1 if there is an error, with 2 if a file cannot be read."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--root", type=Path, help="folder of the revision: also look for the scripts and sources in it"
        )

    def lint(self, data: bytes, name: str, options: dict[str, Any]) -> Report:
        if options["root"] and not options["root"].is_dir():
            raise NotADirectoryError(None, f"{options['root']} is no folder of a revision")
        return lint_appspec(data, name, options["root"])
