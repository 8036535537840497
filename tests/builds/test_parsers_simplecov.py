"""SimpleCov's JSON, old and new, with one command and several."""

import json

import pytest

from apps.builds.parsers import simplecov
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import FileCoverage
from tests.builds.reading import covered


def resultset(**commands: dict) -> str:
    return json.dumps({name: {"coverage": files, "timestamp": 1} for name, files in commands.items()})


def test_lines_that_do_not_count_are_null_or_ignored():
    found = covered(simplecov, resultset(RSpec={"a.rb": {"lines": [1, None, 0, "ignored", 12]}}))
    assert found == [FileCoverage("a.rb", 2, 3)]


def test_before_0_18_a_file_is_its_lines():
    assert covered(simplecov, resultset(RSpec={"a.rb": [1, None, 0]})) == [FileCoverage("a.rb", 1, 2)]


def test_commands_are_merged_line_by_line():
    found = covered(
        simplecov,
        resultset(
            RSpec={"a.rb": [1, 0, None, 0], "only.rb": [1]},
            Cucumber={"a.rb": {"lines": [0, 0, None, None, 3]}},
        ),
    )
    assert found == [FileCoverage("a.rb", 2, 4), FileCoverage("only.rb", 1, 1)]


def test_the_json_formatter_has_no_commands():
    about = {"meta": {"simplecov_version": "0.22"}, "groups": {"Models": {"lines": {"covered": 9}}}}
    branches = [{"type": "then", "coverage": 1}, {"type": "else", "coverage": 0}]
    file = {"lines": [1, 0, None], "branches": branches, "methods": []}
    found = covered(simplecov, json.dumps({**about, "coverage": {"a.rb": file}}))
    assert found == [FileCoverage("a.rb", 1, 2, 1, 2)]


def test_branches_of_a_resultset():
    branches = {"[:if, 0, 1, 2, 3, 4]": {"[:then, 1]": 4, "[:else, 2]": 0}, "[:case, 3]": {"[:when, 4]": 1}}
    (found,) = covered(simplecov, resultset(RSpec={"a.rb": {"lines": [1], "branches": branches}}))
    assert (found.branches_covered, found.branches_total) == (2, 3)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(simplecov, "LINE_LIMIT", 5)
    twice = {"a.rb": [1, 0, None]}
    assert covered(simplecov, resultset(RSpec=twice, Cucumber=twice)) == [FileCoverage("a.rb", 1, 2)]
    with pytest.raises(ReportRefused, match="more than 5 lines"):
        covered(simplecov, resultset(RSpec={**twice, "b.rb": [1, 0, None]}))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"RSpec": {"coverage": {"a.rb": {"lines": {}}}}}', "the lines of a.rb are not a list"),
        ('{"RSpec": {"coverage": {"a.rb": ["often"]}}}', "was run 'often' times, which is no number"),
        ('{"RSpec": {"coverage": {"a.rb": [true]}}}', "was run 'True' times"),
        ('{"RSpec": {"coverage": {"a.rb": [NaN]}}}', "was run 'nan' times"),
        ('{"RSpec": {"timestamp": 1}}', 'it has no "coverage"'),
        ('{"RSpec": {"coverage": []}}', "an object is expected"),
        ('{"RSpec": {"coverage": {"a.rb": [1', "not well-formed JSON"),
        ('{"coverage": {}} x', "something follows its end"),
    ],
)
def test_what_is_refused_says_where(text, told):
    with pytest.raises(ReportRefused, match=told) as refused:
        covered(simplecov, text)
    assert refused.value.line == 1
