"""Coverage reports from the wild: what independent readers agree on, and our reading where they do not."""

import json

import pytest

from apps.builds.parsers import coverage
from apps.builds.parsers.file_coverage import add_up
from tests.corpus import CORPUS, needs_corpus

pytestmark = needs_corpus

NAMES = ("lines_covered", "lines_total", "branches_covered", "branches_total")
# By the ends of their names, in the order of NAMES: files that were cut down after they were made, so that
# Clover's project tells of files that are not there; lines that only methods have; a class that is there
# twice, whose branches the corpus adds up.
READ_OTHERWISE = {
    "clover__empty_example.xml": (0, 0, None, None),
    "clover__example_without_package.xml": (18, 91, 0, 0),
    "clover.onepackage.base.xml": (43, 49, 0, 0),
    "Cobertura_Swift.xml": (1, 2, 0, 0),
    "cobertura-cpp.xml": (2, 2, 0, 0),
    "cobertura-duplicate-classes.xml": (37, 40, 20, 26),
    "empty-appCoverage.xml": (2, 19, 0, 2),
}


@pytest.mark.parametrize("folder", ["cobertura", "jacoco", "clover", "simplecov"])
def test_every_report_is_read_as_the_corpus_counts_it_or_as_documented(folder):
    entries = json.loads((CORPUS / "expected.json").read_text())
    files = {path: entry for path, entry in entries.items() if path.startswith(f"{folder}/")}
    assert len(files) > 10
    different = {}
    for path, entry in files.items():
        with (CORPUS / path).open("rb") as stream:
            found = add_up(coverage(stream))
        wanted = {name: entry["counts"][name] for name in NAMES if name in entry["counts"]}
        for end, own in READ_OTHERWISE.items():
            if path.endswith(end):
                assert entry["confidence"] != "exact"
                wanted = dict(zip(NAMES, own, strict=True))
        told = {name: getattr(found, name) for name in wanted}
        if told != wanted:
            different[path] = (told, wanted)
    assert not different


def test_counts_of_any_size_are_read():
    with (CORPUS / "security/simplecov-huge-ints.json").open("rb") as stream:
        found = add_up(coverage(stream))
    assert (found.lines_covered, found.lines_total) == (2, 4)
