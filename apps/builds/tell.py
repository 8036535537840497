"""What the commands print of builds and their tests, line by line."""

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from apps.builds.compare import PAGE_LIMIT, Kind, Slower
from apps.builds.summary import tests

TITLES = {
    Kind.NEW_FAILURES: "new failures",
    Kind.STILL_FAILING: "still failing",
    Kind.FIXED: "fixed",
    Kind.VANISHED: "vanished",
    Kind.NO_LONGER_RUN: "skipped now",
    Kind.NEW_TESTS: "new tests",
    Kind.SLOWER: "slower",
}


def add_comparison_arguments(parser: ArgumentParser) -> None:
    """What every command takes that prints a comparison."""
    parser.add_argument(
        "--factor",
        type=bounded(float, 1, 1000),
        default=Slower.factor,
        help="a slower test takes at least so many times as long (%(default)s) …",
    )
    parser.add_argument(
        "--minimum-ms",
        type=bounded(int, 0, 86_400_000),
        default=Slower.minimum_ms,
        metavar="MS",
        help="… and so many milliseconds more (%(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=bounded(int, 1, PAGE_LIMIT),
        default=10,
        metavar="N",
        help="name at most so many tests of each kind (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def comparison(told: dict[str, Any]) -> Iterator[str]:
    """A comparison as apps.builds.compare.to_json tells it."""
    before, after = told["against"], told["build"]
    yield f"{_build(after)} against {_build(before)}"
    for problem in told["problems"]:
        yield f"Not to be relied on: {printable(problem)}"
    for kind, title in TITLES.items():
        number = told["counts"][kind]
        than = told["slower_than"]
        how = (
            f" ({than['factor']:g} times and {than['minimum_ms']:,} ms or more)"
            if kind == Kind.SLOWER
            else ""
        )
        yield f"{number:>9,}  {title}{how}"
        shown = [case for case in told["cases"] if case["kind"] == kind]
        for case in shown:
            yield f"           {case_name(case)}{_change(case)}"
        if shown and number > len(shown):
            yield f"           and {tests(number - len(shown))} more"


def report(told: dict[str, Any]) -> Iterator[str]:
    """A report as apps.builds.report.whole_report tells it."""
    why = printable(told["problem"] or "no raw file was read")
    state = "complete" if told["complete"] else f"not complete ({why})"
    commit = f" ({told['commit'][:12]})" if told["commit"] else ""
    yield f"{printable(told['name'])} of build {told['build']}{commit}: {told['status']}, {state}"
    names = ("passed", "failed", "errors", "skipped", "unknown")
    counts = ", ".join(f"{told[name]:,} {name}" for name in names)
    yield f"{counts}; {seconds(told['duration_ns'])}"
    for file in told["files"]:
        place = f"s3://{file['bucket']}/{printable(file['key'])}"
        yield f"From {place}, {file['size']:,} bytes, SHA-256 {file['sha256']}"
    if told["failures"]:
        yield "Failures:"
    for case in told["failures"]:
        yield f"  {case['status']:<6}  {case_name(case)}"
        if case["message"]:
            yield f"          {printable(case['message'].splitlines()[0])[:200]}"
    if rest := told["failed"] + told["errors"] - len(told["failures"]):
        yield f"  and {rest:,} more" if rest > 0 else ""
    if told["slowest"]:
        yield "Slowest:"
    for case in told["slowest"]:
        yield f"  {seconds(case['duration_ns']):>12}  {case_name(case)}"


def history(told: dict[str, Any]) -> Iterator[str]:
    """A test as apps.builds.history.History.to_json tells it."""
    yield printable(f"{told['group']}: {told['test']} (id {told['id']})")
    for mark in ("failing_since", "last_pass", "first_failure"):
        if run := told[mark]:
            yield f"{mark.replace('_', ' ')}: build {run['build']} ({run['commit'][:12] or 'unknown commit'})"
    if not told["runs"]:
        yield "Nothing is kept of how it ended."
    for run in told["runs"]:
        ended = run["ended"]
        how = f"{ended['outcome']:<9}  {seconds(ended['duration_ns']):>10}" if ended else f"{'not there':<21}"
        flaky = "  flaky" if ended and ended["flaky"] else ""
        when = f"{run['finished_at']:%Y-%m-%d %H:%M}" if run["finished_at"] else ""
        yield f"  {when:<16}  build {run['build']:<8}  {run['commit'][:12]:<12}  {how}{flaky}"


def trend(told: dict[str, Any]) -> Iterator[str]:
    """A table of builds as apps.builds.trends.trend tells them."""
    yield _columns("FINISHED", "BUILD", "COMMIT", "TESTS", "PASSED", "FAILED", "RATE", "DURATION", "LINES")
    for row in told["builds"]:
        yield _columns(
            f"{row['finished_at']:%Y-%m-%d %H:%M}" if row["finished_at"] else "",
            str(row["id"]),
            row["commit"][:12],
            f"{row['tests']:,}",
            f"{row['passed']:,}",
            f"{row['failed'] + row['errors']:,}",
            _share(row["pass_rate"]),
            seconds(row["duration_ns"]),
            _share(row["line_rate"]),
        ) + ("" if row["complete"] else "  not complete")


def _columns(when: str, build: str, commit: str, *numbers: str) -> str:
    return f"{when:<16}  {build:>7}  {commit:<12}" + "".join(f"{number:>11}" for number in numbers)


def _share(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.2f} %"


def case_name(case: dict[str, Any]) -> str:
    """A test by the names that tell it apart, with its report."""
    name = f"{case['class_name']}::{case['name']}" if case["class_name"] else case["name"]
    twin = f" #{case['ordinal'] + 1}" if case["ordinal"] else ""
    return printable(f"{case['group']}: {name}{twin}")


def seconds(duration_ns: int) -> str:
    """A duration as people read it."""
    return f"{duration_ns / 1e9:,.2f} s"


def printable(text: str) -> str:
    """A text from a file, without what could steer a terminal."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _build(brief: dict[str, Any]) -> str:
    commit = f" ({brief['commit'][:12]})" if brief["commit"] else ""
    return f"Build {brief['id']}{commit}"


def _change(case: dict[str, Any]) -> str:
    if case["kind"] != Kind.SLOWER:
        return ""
    return f": {seconds(case['before']['duration_ns'])} → {seconds(case['after']['duration_ns'])}"


def bounded(kind: Any, least: float, most: float) -> Any:
    """What argparse takes for a number within bounds."""

    def number(text: str) -> Any:
        value = kind(text)
        if not least <= value <= most:
            raise ValueError
        return value

    # What argparse calls it when it refuses a value.
    number.__name__ = f"number from {least:,} to {most:,}"
    return number
