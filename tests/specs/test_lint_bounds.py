"""Hostile files are refused with a sentence, soon, and without the memory that they ask for."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apps.specs.document import MAX_BYTES
from apps.specs.lint import lint_appspec, lint_buildspec

REPOSITORY = Path(__file__).resolve().parents[2]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "bomb": (BOMB, "too-many"),
    "deep-flow": ("[" * 500_000, "too-deep"),
    "deep-mapping": ("{a: " * 100_000, "too-deep"),
    "deep-block": ("- " * 100_000 + "a", "too-deep"),
    "wide": ("[" + "a," * 500_000 + "]", "too-many"),
    "large": ("a" * (MAX_BYTES + 1), "too-large"),
    "recursive": ("a: &a [*a]\n", "alias-loop"),
    "recursive-mapping": ("a: &a\n  b: *a\n", "alias-loop"),
    "nul": ("version: 0.0\n\0", "not-yaml"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("lint", [lint_appspec, lint_buildspec])
def test_a_hostile_file_is_refused(name, lint):
    text, code = HOSTILE[name]
    report = lint(text.encode(), "-")
    assert [finding.code for finding in report.findings] == [code]
    assert report.findings[0].message.endswith(".")


@pytest.mark.parametrize(
    "text", ["a: " + "9" * 10_000, "a: 0b", "a: 1:99999999:3", "a: 2024-99-99", "a: .inf", "a: ='"]
)
def test_strange_numbers_and_dates_are_no_accident(text):
    for lint in (lint_appspec, lint_buildspec):
        assert lint(f"version: {text[3:]}\nos: linux\nphases: {{}}\n".encode()).findings


@pytest.mark.parametrize("name", ["bomb", "wide", "deep-flow"])
def test_it_takes_neither_long_nor_much_memory(name):
    """In a process of its own, with 200 MB of address space beyond what Python has at its start."""
    program = (
        "import sys, resource\n"
        "from apps.specs.lint import lint_appspec, lint_buildspec\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)\n"
        "data = sys.stdin.buffer.read()\n"
        "sys.exit(lint_appspec(data).ok or lint_buildspec(data).ok)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", program],
        input=HOSTILE[name][0].encode(),
        cwd=REPOSITORY,
        check=True,
        timeout=60,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, which other processes on the machine do not change.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 4, time.monotonic() - start
