"""Cobertura's XML: which lines and branches count, and what is refused."""

import pytest

from apps.builds.parsers import cobertura
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import FileCoverage
from tests.builds.reading import covered


def report(*classes: str, attributes: str = "") -> str:
    return f"<coverage {attributes}><packages><package>{''.join(classes)}</package></packages></coverage>"


def klass(lines: str, filename: str = "a.py", methods: str = "") -> str:
    return f'<class name="a" filename="{filename}">{methods}<lines>{lines}</lines></class>'


RUN, MISSED = '<line number="1" hits="3"/>', '<line number="2" hits="0"/>'


def test_lines_count_and_what_the_root_declares_does_not():
    found = covered(cobertura, report(klass(RUN + MISSED), attributes='lines-valid="9" lines-covered="9"'))
    assert found == [FileCoverage("a.py", 1, 2, 0, 0)]


def test_a_line_counts_once_in_its_file_however_many_classes_name_it():
    again = klass('<line number="1" hits="0"/><line number="2" hits="1"/>')
    other = klass(RUN, filename="b.py")
    assert covered(cobertura, report(klass(RUN + MISSED), other, again)) == [
        FileCoverage("a.py", 2, 2, 0, 0),
        FileCoverage("b.py", 1, 1, 0, 0),
    ]


def test_lines_of_methods_are_those_of_the_class_again():
    methods = f'<methods><method name="m"><lines>{RUN}<line number="7" hits="1"/></lines></method></methods>'
    assert covered(cobertura, report(klass(RUN + MISSED, methods=methods)))[0].lines_total == 2
    # Some tools write them nowhere else.
    assert covered(cobertura, report(klass("", methods=methods))) == [FileCoverage("a.py", 2, 2, 0, 0)]


def test_branches_come_from_the_conditions():
    line = '<line number="{}" hits="1" branch="true" condition-coverage="{}"/>'
    lines = line.format(1, "50% (1/2)") + line.format(2, "100% (4/4)") + line.format(3, "") + MISSED
    (found,) = covered(cobertura, report(klass(lines)))
    assert (found.branches_covered, found.branches_total) == (5, 6)


def test_of_a_line_named_twice_the_branches_do_not_add_up():
    line = '<line number="1" hits="1" condition-coverage="50% ({}/2)"/>'
    (found,) = covered(cobertura, report(klass(line.format(1)), klass(line.format(2))))
    assert (found.branches_covered, found.branches_total) == (2, 2)


def test_a_file_without_a_line_is_there():
    assert covered(cobertura, report(klass(""))) == [FileCoverage("a.py", 0, 0, 0, 0)]


@pytest.mark.parametrize("hits", ["18446744073709551616", "1.5e9"])
def test_counts_beyond_what_tools_hold(hits):
    (found,) = covered(cobertura, report(klass(f'<line number="1" hits="{hits}"/>')))
    assert found.lines_covered == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('<line number="1" hits="many"/>', r"a line has hits='many', which is no number \(line 1, "),
        ('<line hits="1"/>', "a line has number=''"),
        ('<line number="1" hits="nan"/>', "hits='nan'"),
        ('<line number="1" hits="inf"/>', "hits='inf'"),
        ('<line number="1" hits="1" condition-coverage="(3/2)"/>', "3 of 2 branches were taken"),
        ('<line number="1" hits="1"', "not well-formed"),
    ],
)
def test_what_is_refused_says_where(line, told):
    with pytest.raises(ReportRefused, match=told):
        covered(cobertura, report(klass(line)))


def test_marks_of_net_that_are_no_lines_numbers_cost_no_memory():
    marks = '<line number="16707566" hits="1" condition-coverage="50% (1/2)"/><line number="-1" hits="0"/>'
    assert covered(cobertura, report(klass(RUN + marks), klass(marks))) == [FileCoverage("a.py", 2, 3, 1, 2)]


def test_marks_are_bounded(monkeypatch):
    monkeypatch.setattr("apps.builds.parsers.file_coverage.MARK_LIMIT", 10)
    lines = "".join(f'<line number="-{number}" hits="0"/>' for number in range(1, 12))
    with pytest.raises(ReportRefused, match="more than"):
        covered(cobertura, report(klass(lines)))


def test_lines_of_methods_are_bounded(monkeypatch):
    monkeypatch.setattr(cobertura, "METHOD_LINE_LIMIT", 1)
    methods = f'<methods><method name="m"><lines>{RUN}{MISSED}</lines></method></methods>'
    with pytest.raises(ReportRefused, match="a class has more than 1 lines in its methods"):
        covered(cobertura, report(klass("", methods=methods)))


def test_names_are_bounded(monkeypatch):
    files = [klass("", filename=f"{number}.py") for number in range(11)]
    monkeypatch.setattr("apps.builds.parsers.file_coverage.FILE_LIMIT", 10)
    with pytest.raises(ReportRefused, match="more than 10 files"):
        covered(cobertura, report(*files))
    monkeypatch.setattr("apps.builds.parsers.file_coverage.FILE_LIMIT", 100)
    monkeypatch.setattr("apps.builds.parsers.file_coverage.NAMES_LIMIT", 10)
    with pytest.raises(ReportRefused, match="more than 10 characters"):
        covered(cobertura, report(*files))


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr("apps.builds.parsers.file_coverage.LINE_LIMIT", 10)
    lines = "".join(f'<line number="{number}" hits="0"/>' for number in range(11))
    with pytest.raises(ReportRefused, match=r"more than 10 lines \(line 1"):
        covered(cobertura, report(klass(lines)))
