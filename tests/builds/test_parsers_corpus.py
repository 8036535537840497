"""Reports from the wild: what independent readers agree on, our reading where they do not, and hostile ones.

Coverage reports have tests of their own.
"""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from apps.builds.parsers import cases, recognise
from apps.builds.parsers.case import Outcome
from apps.builds.parsers.errors import ReportRefused
from tests.corpus import CORPUS, needs_corpus

pytestmark = needs_corpus

FORMATS = {
    "junit": "JUNITXML",
    "cucumber": "CUCUMBERJSON",
    "nunit2": "NUNITXML",
    "nunit3": "NUNIT3XML",
    "testng": "TESTNGXML",
    "trx": "VISUALSTUDIOTRX",
    "jacoco": "JACOCOXML",
    "simplecov": "SIMPLECOV",
    "clover": "CLOVERXML",
    "cobertura": "COBERTURAXML",
}
TESTS = ("junit", "nunit2", "nunit3", "testng", "trx")
NAMES = {
    "tests": None,
    "passed": Outcome.PASSED,
    "failed": Outcome.FAILED,
    "errors": Outcome.ERROR,
    "skipped": Outcome.SKIPPED,
}

# What a scenario's status, as the corpus counts it, is for us.
SCENARIOS = {
    "passed": Outcome.PASSED,
    "skipped": Outcome.SKIPPED,
    "failed": Outcome.FAILED,
    "pending": Outcome.FAILED,
    "undefined": Outcome.FAILED,
    "unknown": Outcome.UNKNOWN,
    "no_steps": Outcome.UNKNOWN,
}
# By the ends of their names: where the corpus counts a scenario by its own steps in small letters, and we
# also by its background, and by "Undefined".
SCENARIOS_READ_OTHERWISE = {
    "ScenarioResultTest__backgroundFailure.json": {Outcome.PASSED: 7, Outcome.FAILED: 1},
    "Output_Cucumber__cucumberResult.json": {Outcome.FAILED: 57},
    "CucumberJson__results-example-json.json": {Outcome.PASSED: 40, Outcome.FAILED: 30},
}

# Hostile, and yet well-formed reports: how many cases they have.
READABLE = {"junit-numbers.xml": 8, "junit-script-in-names.xml": 1, "cucumber-dup-keys-and-nan.json": 1}


@cache
def expected() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((CORPUS / "expected.json").read_text())
    return found


def entries(*folders: str) -> dict[str, dict[str, Any]]:
    return {path: entry for path, entry in expected().items() if path.split("/")[0] in folders}


def outcomes(path: str) -> Counter[Outcome]:
    with (CORPUS / path).open("rb") as stream:
        return Counter(case.outcome for case in cases(stream))


def is_broken(entry: dict[str, Any]) -> bool:
    return bool(entry["confidence"].startswith("not well-formed"))


@pytest.mark.parametrize("folder", TESTS)
def test_every_report_is_read_as_the_corpus_counts_it(folder):
    """Where the sources disagree, too: the documented decisions are those of the corpus."""
    files = {path: entry for path, entry in entries(folder).items() if not is_broken(entry)}
    assert len(files) > 10
    different = {}
    for path, entry in files.items():
        found = outcomes(path)
        told = {name: found[outcome] if outcome else found.total() for name, outcome in NAMES.items()}
        wanted = {name: entry["counts"][name] for name in NAMES}
        if told != wanted:
            different[path] = (told, wanted)
    assert not different


def test_every_scenario_is_read_as_documented():
    different = {}
    for path, entry in entries("cucumber").items():
        wanted: Counter[Outcome] = Counter()
        for status, number in entry["counts"]["scenarios"].items():
            if status != "scenarios":
                wanted[SCENARIOS[status]] += number
        for end, own in SCENARIOS_READ_OTHERWISE.items():
            if path.endswith(end):
                wanted = Counter(own)
        if (found := outcomes(path)) != wanted:
            different[path] = (found, wanted)
    assert not different


def test_files_that_are_not_well_formed_are_refused_with_the_line():
    broken = [path for path, entry in entries(*TESTS).items() if is_broken(entry)]
    assert broken
    for path in broken:
        with pytest.raises(ReportRefused, match="not well-formed") as refused:
            outcomes(path)
        assert refused.value.line


def test_every_report_is_recognised():
    files = entries(*FORMATS)
    assert len(files) > 400
    different = {}
    for path, entry in files.items():
        if is_broken(entry):
            continue
        with (CORPUS / path).open("rb") as stream:
            found = recognise(stream).name
        if found != FORMATS[path.split("/")[0]]:
            different[path] = found
    assert not different


def test_nothing_else_is_taken_for_a_report():
    others = entries("negative")
    assert others
    for path in others:
        with pytest.raises(ReportRefused):
            outcomes(path)


def test_hostile_files_are_refused_or_read_without_harm():
    hostile = [
        path for path in entries("security") if Path(path).name.startswith(("junit-", "trx-", "cucumber-"))
    ]
    assert len(hostile) > 10
    for path in hostile:
        name = Path(path).name
        if name in READABLE:
            assert outcomes(path).total() == READABLE[name]
        else:
            with pytest.raises(ReportRefused):
                outcomes(path)


def test_duplicate_keys_never_hide_a_failure():
    assert outcomes("security/cucumber-dup-keys-and-nan.json") == {Outcome.FAILED: 1}
