"""JUnit files from the wild, against counts that independent readers agree on."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from apps.builds.parsers.case import Outcome
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.junit import cases
from tests.corpus import CORPUS, needs_corpus

pytestmark = needs_corpus

HOSTILE_BUT_READABLE = {"junit-numbers.xml": 8, "junit-script-in-names.xml": 1}


@cache
def expected() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((CORPUS / "expected.json").read_text())
    return found


def counts(path: Path) -> dict[str, int]:
    with path.open("rb") as stream:
        outcomes = Counter(case.outcome for case in cases(stream))
    return {
        "tests": outcomes.total(),
        "passed": outcomes[Outcome.PASSED],
        "failed": outcomes[Outcome.FAILED],
        "errors": outcomes[Outcome.ERROR],
        "skipped": outcomes[Outcome.SKIPPED],
    }


def test_every_file_with_exact_counts_is_read_like_that():
    entries = {
        path: entry["counts"]
        for path, entry in expected().items()
        if path.startswith("junit/") and entry["confidence"] == "exact"
    }
    assert len(entries) > 200
    different = {}
    for path, wanted in entries.items():
        found = counts(CORPUS / path)
        if found != wanted:
            different[path] = (found, wanted)
    assert not different


def test_files_that_are_not_well_formed_are_refused():
    broken = [
        path
        for path, entry in expected().items()
        if path.startswith("junit/") and entry["confidence"].startswith("not well-formed")
    ]
    assert broken
    for path in broken:
        with pytest.raises(ReportRefused, match="not well-formed"):
            counts(CORPUS / path)


def test_nothing_else_is_taken_for_junit():
    others = [path for path in expected() if path.startswith("negative/")]
    assert others
    for path in others:
        with pytest.raises(ReportRefused):
            counts(CORPUS / path)


def test_hostile_files_are_refused_or_read_without_harm():
    hostile = [path for path in expected() if path.startswith("security/junit-")]
    assert hostile
    for path in hostile:
        name = Path(path).name
        if name in HOSTILE_BUT_READABLE:
            assert counts(CORPUS / path)["tests"] == HOSTILE_BUT_READABLE[name]
        else:
            with pytest.raises(ReportRefused):
                counts(CORPUS / path)
