"""Clover's XML: statements, conditionals, and what is refused."""

import pytest

from apps.builds.parsers import clover
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import FileCoverage
from tests.builds.reading import covered


def report(inside: str, kind: str = "project") -> str:
    return f'<coverage generated="1"><{kind} timestamp="1">{inside}</{kind}></coverage>'


def test_the_metrics_of_files_count():
    metrics = '<metrics statements="4" coveredstatements="3" conditionals="2" coveredconditionals="1"/>'
    inside = f'<file name="A.php" path="/src/A.php"><line num="1" type="stmt" count="0"/>{metrics}</file>'
    whole = '<metrics statements="90" coveredstatements="1"/>'
    assert covered(clover, report(inside + whole)) == [FileCoverage("/src/A.php", 3, 4, 1, 2)]


def test_the_metrics_of_classes_are_not_the_files():
    klass = '<class name="A"><metrics statements="9" coveredstatements="9"/></class>'
    inside = f'<file name="A.php">{klass}<metrics statements="2" coveredstatements="1"/></file>'
    assert covered(clover, report(inside)) == [FileCoverage("A.php", 1, 2, 0, 0)]


def test_a_file_without_metrics_is_counted_by_its_statements():
    lines = (
        '<line num="1" type="method" count="1"/>'
        '<line num="2" type="stmt" count="2"/><line num="3" count="0"/>'
        '<line num="4" type="cond" truecount="1" falsecount="0"/>'
    )
    inside = f'<package name="p"><file name="A.php">{lines}</file></package>'
    assert covered(clover, report(inside)) == [FileCoverage("A.php", 2, 3, 1, 2)]


def test_test_code_does_not_count():
    inside = '<file name="ATest.java"><metrics statements="2" coveredstatements="2"/></file>'
    assert covered(clover, report(inside, kind="testproject")) == []


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        (
            '<file name="A"><metrics statements="1" coveredstatements="2"/></file>',
            "more of A was run than",
        ),
        ('<file name="A"><line num="1" count="-1"/></file>', r"count is '-1', which is no count \(line 1, "),
        ('<file name="A"><metrics statements="1e9"/></file>', "statements is '1e9'"),
        ("<file>", "not well-formed"),
    ],
)
def test_what_is_refused_says_where(inside, told):
    with pytest.raises(ReportRefused, match=told):
        covered(clover, report(inside))
