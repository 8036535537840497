"""The command line of `systemctl`, and the verbs that only touch files and so work while the host is down."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import NoReturn

from . import enablement
from .names import Layout, UnitName
from .unitfile import UnitError


class UsageError(Exception):
    """The command line is wrong."""


@dataclass
class Answer:
    """What the client prints, and its exit code."""

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    code: int = 0

    def fail(self, message: str, code: int = 1) -> None:
        """Add an error; the first failure's code stays."""
        self.stderr.append(message)
        self.code = self.code or code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parse(argv: list[str]) -> argparse.Namespace:
    """Read a command line; raises UsageError."""
    parser = _Parser(prog="systemctl", add_help=False, allow_abbrev=False)
    parser.add_argument("verb", nargs="?", default="list-units")
    parser.add_argument("units", nargs="*")
    parser.add_argument("--no-block", action="store_true")
    parser.add_argument("--now", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--no-legend", action="store_true")
    parser.add_argument("--legend", choices=("true", "false", "yes", "no"), default="true")
    parser.add_argument("--no-pager", action="store_true")
    parser.add_argument("--system", action="store_true")
    parser.add_argument("--full", "-l", action="store_true")
    parser.add_argument("--all", "-a", action="store_true")
    parser.add_argument("--failed", action="store_true")
    parser.add_argument("--value", action="store_true")
    parser.add_argument("--quiet", "-q", action="store_true")
    parser.add_argument("--property", "-p", action="append", default=[])
    parser.add_argument("--state", action="append", default=[])
    parser.add_argument("--type", "-t", action="append", default=[])
    parser.add_argument("--signal", "-s", default="SIGTERM")
    parser.add_argument("--kill-whom", "--kill-who", choices=("main", "all", "control"), default="all")
    parser.add_argument("--lines", "-n", type=int, default=10)
    return parser.parse_intermixed_args(argv)


def unit_name(text: str) -> UnitName:
    """Raises UsageError for what cannot be a unit's name."""
    try:
        return UnitName.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _enable(layout: Layout, name: UnitName, answer: Answer) -> None:
    answer.stderr += enablement.enable(layout, name)


def _disable(layout: Layout, name: UnitName, answer: Answer) -> None:
    answer.stderr += enablement.disable(layout, name)


def _is_enabled(layout: Layout, name: UnitName, answer: Answer) -> None:
    state = enablement.is_enabled(layout, name)
    if state == "not-found":
        answer.fail(f"Failed to get unit file state for {name}: No such file or directory")
        return
    answer.stdout.append(state)
    if state in {"disabled", "masked"}:
        answer.code = answer.code or 1


FILE_VERBS = {"enable": _enable, "disable": _disable, "is-enabled": _is_enabled}


def run_on_files(layout: Layout, options: argparse.Namespace, answer: Answer) -> None:
    """Do one of FILE_VERBS for all units named."""
    for text in options.units:
        try:
            FILE_VERBS[options.verb](layout, unit_name(text), answer)
        except (enablement.EnableError, UnitError) as error:
            answer.fail(f"Failed to {options.verb} unit: {error}")
    if options.quiet:
        answer.stdout.clear()
