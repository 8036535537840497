"""JaCoCo's XML: counters, lines without counters, and what is refused."""

import pytest

from apps.builds.parsers import jacoco
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import FileCoverage
from tests.builds.reading import covered

DOCTYPE = '<!DOCTYPE report PUBLIC "-//JACOCO//DTD Report 1.0//EN" "report.dtd">'


def report(inside: str, package: str = "com/shop") -> str:
    return f'{DOCTYPE}<report name="r"><package name="{package}">{inside}</package></report>'


def counter(kind: str, covered: int, missed: int) -> str:
    return f'<counter type="{kind}" covered="{covered}" missed="{missed}"/>'


def test_the_counters_of_source_files_count():
    source = (
        f'<sourcefile name="A.java"><line nr="1" ci="1"/>{counter("LINE", 3, 1)}{counter("BRANCH", 1, 3)}'
    )
    found = covered(jacoco, report(f"{source}</sourcefile>{counter('LINE', 90, 90)}"))
    assert found == [FileCoverage("com/shop/A.java", 3, 4, 1, 4)]


def test_a_source_file_without_counters_is_counted_by_its_lines():
    lines = '<line nr="1" mi="2" ci="1" mb="1" cb="1"/><line nr="2" mi="1"/><line/>'
    found = covered(jacoco, report(f'<sourcefile name="A.java">{lines}</sourcefile>'))
    assert found == [FileCoverage("com/shop/A.java", 1, 3, 1, 2)]


def test_methods_and_classes_are_not_counted_beside_their_source_files():
    method = f'<method name="m">{counter("LINE", 1, 0)}</method>'
    one = f'<class name="com/shop/A">{method}{counter("LINE", 1, 0)}</class>'
    source = f'<sourcefile name="A.java">{counter("LINE", 1, 0)}</sourcefile>'
    assert covered(jacoco, report(one + source)) == [FileCoverage("com/shop/A.java", 1, 1, 0, 0)]


def test_a_package_without_source_files_is_counted_by_its_classes():
    classes = f'<class name="com/shop/A">{counter("LINE", 1, 2)}</class>'
    assert covered(jacoco, report(classes)) == [FileCoverage("com/shop/A", 1, 3, 0, 0)]


def test_packages_in_groups():
    source = f'<sourcefile name="A.java">{counter("LINE", 1, 0)}</sourcefile>'
    group = f'<group name="g"><package name="p">{source}</package>{counter("LINE", 1, 0)}</group>'
    found = covered(jacoco, f"{DOCTYPE}<report name='r'>{group}{group}{counter('LINE', 2, 0)}</report>")
    assert [file.lines_total for file in found] == [1, 1]


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        ('<sourcefile name="A"><line ci="-1"/></sourcefile>', r"ci is '-1', which is no count \(line 1, "),
        ('<sourcefile name="A"><counter type="LINE" covered="x"/></sourcefile>', "covered is 'x'"),
        ('<sourcefile name="A"><line ci="²"/></sourcefile>', "ci is '²'"),
        ("<sourcefile>", "not well-formed"),
    ],
)
def test_what_is_refused_says_where(inside, told):
    with pytest.raises(ReportRefused, match=told):
        covered(jacoco, report(inside))


def test_entities_are_refused_and_a_doctype_is_not():
    bomb = '<!DOCTYPE report [<!ENTITY a "aaaa">]><report name="&a;"/>'
    with pytest.raises(ReportRefused, match="entities are not read"):
        covered(jacoco, bomb)
    assert covered(jacoco, report("")) == []
