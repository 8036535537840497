"""Read test and coverage reports as the gate reads them, and tell what was kept of them."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from apps.builds import compare, tell, trends
from apps.builds.compare import Slower
from apps.builds.coverage import Comparison, compare_coverage, coverage_report, percent
from apps.builds.history import RUNS_LIMIT, case_history, find_case
from apps.builds.parsers import FORMATS
from apps.builds.report import whole_report
from apps.builds.services import get_build
from apps.builds.summary import SIZE_LIMIT, Summary, summarise, tests
from apps.builds.tell import printable
from apps.catalog.services import get_service
from apps.commands import DomainCommand

COLUMNS = ("tests", "passed", "failed", "errors", "skipped")


class Command(DomainCommand):
    help = (
        "Read test and coverage reports as the gate reads them. `parse` tells what report files hold, needs "
        "no database, and ends with 1 if any file was refused. The others tell what was kept: `show` of one "
        "report, `compare` which tests of a build went another way than in an earlier one, `history` how a "
        "test ended through the builds, `trends` totals by build, `coverage` how much of each file the tests "
        "of a build ran."
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
        parse.set_defaults(act=self._parse)
        compared = commands.add_parser("compare", help="tell which tests of a build went another way")
        compared.add_argument("before", metavar="BEFORE", help="a build: its id, or CodeBuild's")
        compared.add_argument("after", metavar="AFTER", help="a later build of the same service")
        tell.add_comparison_arguments(compared)
        compared.set_defaults(act=self._compare)
        show = commands.add_parser("show", help="tell what is kept of one report")
        show.add_argument("report", type=int, metavar="REPORT", help="a report's id")
        show.add_argument("--json", action="store_true", help="print one JSON object")
        show.set_defaults(act=self._show)
        trend = commands.add_parser("trends", help="tell tests, pass rate, duration and coverage by build")
        trend.add_argument("service", metavar="SERVICE")
        trend.add_argument("--branch", default="", help="only builds of this source_version")
        trend.add_argument("--report", default="", metavar="NAME", help="only reports of this name")
        trend.add_argument(
            "--limit",
            type=tell.bounded(int, 1, trends.SHOWN_LIMIT),
            default=trends.SHOWN,
            metavar="N",
            help="the newest builds (%(default)s)",
        )
        trend.add_argument("--json", action="store_true", help="print one JSON object")
        trend.set_defaults(act=self._trends)
        past = commands.add_parser("history", help="tell how a test ended through the builds")
        past.add_argument("service", metavar="SERVICE")
        past.add_argument("test", metavar="TEST", help="a name, Class::name, a part of these, or an id")
        past.add_argument("--group", default="", help="the report group, where several have such a test")
        past.add_argument("--branch", default="", help="only builds of this source_version")
        past.add_argument(
            "--limit",
            type=tell.bounded(int, 1, RUNS_LIMIT),
            default=20,
            metavar="N",
            help="so many reports (%(default)s)",
        )
        past.add_argument("--json", action="store_true", help="print one JSON object")
        past.set_defaults(act=self._history)
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
        covered.set_defaults(act=self._coverage)

    def handle(self, *args: Any, **options: Any) -> None:
        options["act"](options)

    def _compare(self, options: dict[str, Any]) -> None:
        before, after = get_build(options["before"]), get_build(options["after"])
        than = Slower(options["factor"], options["minimum_ms"])
        comparison = compare.compare_builds(before=before, after=after, than=than)
        told = compare.to_json(comparison, before=before, after=after, limit=options["limit"])
        self._print(told, tell.comparison, options)

    def _show(self, options: dict[str, Any]) -> None:
        self._print(whole_report(options["report"]), tell.report, options)

    def _trends(self, options: dict[str, Any]) -> None:
        builds = trends.read_builds().filter(service=get_service(options["service"]))
        if options["report"]:
            builds = builds.filter(reports__name=options["report"])
        builds = trends.of_branch(builds, options["branch"])
        rows = trends.trend(builds, report=options["report"], limit=options["limit"])
        self._print({"builds": rows}, tell.trend, options)

    def _history(self, options: dict[str, Any]) -> None:
        service = get_service(options["service"])
        case = find_case(service=service, name=options["test"], group=options["group"])
        history = case_history(case, limit=options["limit"], branch=options["branch"])
        told = {"id": str(case.pk), "group": case.group, "test": str(case), **history.to_json()}
        self._print(told, tell.history, options)

    def _print(
        self, told: dict[str, Any], lines: Callable[[dict[str, Any]], Iterable[str]], options: dict[str, Any]
    ) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(told, cls=DjangoJSONEncoder))
        else:
            self.stdout.write("\n".join(lines(told)))

    def _coverage(self, options: dict[str, Any]) -> None:
        against = get_build(options["against"]) if options["against"] else None
        report = coverage_report(get_build(options["build"]), options["report"])
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


def _whole(comparison: Comparison) -> str:
    now, share = comparison.now, percent(comparison.now)
    told = f"{comparison.report.build} {comparison.report.name}: "
    told += f"{now.lines_covered:,} of {now.lines_total:,} lines"
    told += "" if share is None else f" ({share:.2f} %)"
    if comparison.against:
        change = "" if comparison.change is None else f"{comparison.change:+.2f} points "
        told += f", {change}against {comparison.against.build}"
    return told


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
