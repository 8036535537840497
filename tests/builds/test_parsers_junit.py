"""JUnit XML: what counts as what, and what is refused."""

import io
from itertools import chain, repeat

import pytest

from apps.builds.parsers import xml
from apps.builds.parsers.case import Case, Outcome, as_case
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.junit import cases
from tests.builds.reading import Endless


def read(text: str | bytes) -> list[Case]:
    stream = io.BytesIO(text.encode() if isinstance(text, str) else text)
    return [as_case(each) for each in cases(stream)]


def suite(*cases: str, attributes: str = 'name="s"') -> str:
    return f"<testsuite {attributes}>{''.join(cases)}</testsuite>"


def test_a_case_has_suite_class_name_and_duration():
    (case,) = read(suite('<testcase classname="a.B" name="test_c" time="1.5"/>'))
    assert case == Case("s", "a.B", "test_c", Outcome.PASSED, 1_500_000_000, "")


@pytest.mark.parametrize(
    ("children", "outcome", "message"),
    [
        ("", Outcome.PASSED, ""),
        ("<system-out>failure</system-out>", Outcome.PASSED, ""),
        ("<failure/>", Outcome.FAILED, ""),
        ('<failure message="m">text</failure>', Outcome.FAILED, "m\ntext"),
        ('<failure message="m">m and more</failure>', Outcome.FAILED, "m and more"),
        ('<failure type="AssertionError"/>', Outcome.FAILED, "AssertionError"),
        ("<failure><![CDATA[<b> & c]]></failure>", Outcome.FAILED, "<b> & c"),
        ('<error message="e"/>', Outcome.ERROR, "e"),
        ('<skipped message="s"/>', Outcome.SKIPPED, "s"),
        ('<skipped message="s"/><failure message="f"/>', Outcome.FAILED, "f"),
        ('<error message="e"/><failure message="f"/><skipped/>', Outcome.ERROR, "e"),
        ('<failure message="first"/><failure message="second"/>', Outcome.FAILED, "first"),
        ('<flakyFailure message="once"/>', Outcome.PASSED, ""),
        ('<failure message="f"/><rerunFailure message="again"/>', Outcome.FAILED, "f"),
        ("<properties><failure/></properties>", Outcome.PASSED, ""),
        ("<failure>a<b>c</b>d</failure>", Outcome.FAILED, "acd"),
    ],
)
def test_the_gravest_result_counts_once(children, outcome, message):
    (case,) = read(suite(f'<testcase name="t">{children}</testcase>'))
    assert (case.outcome, case.text) == (outcome, message)


def test_a_message_is_cut():
    (case,) = read(suite(f'<testcase name="t"><failure>{"x" * 100_000}</failure></testcase>'))
    assert (len(case.message), len(case.details)) == (1000, 4000)


def result(*attempts):
    return [(attempt.outcome, attempt.message) for attempt in attempts]


def test_failures_before_a_pass_are_attempts_of_a_case_that_passed():
    (case,) = read(
        suite(
            '<testcase name="t" time="2"><flakyFailure message="first"><stackTrace>trace</stackTrace>'
            "</flakyFailure><flakyError message='second'/></testcase>"
        )
    )
    assert (case.outcome, case.message, case.flaky) == (Outcome.PASSED, "", True)
    assert result(*case.attempts) == [
        (Outcome.FAILED, "first"),
        (Outcome.ERROR, "second"),
        (Outcome.PASSED, ""),
    ]
    assert case.attempts[0].details == "trace"


def test_reruns_that_never_pass_are_attempts_of_a_case_that_failed():
    again = '<rerunFailure message="again"/><rerunError message="and again"/>'
    (case,) = read(suite(f'<testcase name="t"><failure message="f"/>{again}</testcase>'))
    assert (case.outcome, case.message, case.flaky) == (Outcome.FAILED, "f", False)
    assert result(*case.attempts) == [
        (Outcome.FAILED, "f"),
        (Outcome.FAILED, "again"),
        (Outcome.ERROR, "and again"),
    ]


def test_a_failed_rerun_without_a_first_result_is_flaky():
    first, second = read(suite('<testcase name="t"><rerunFailure/></testcase>', '<testcase name="u"/>'))
    assert (first.outcome, first.flaky) == (Outcome.PASSED, True)
    assert second == Case("s", "", "u")


def test_a_case_that_is_listed_twice_is_two_cases():
    twice = '<testcase name="t"><failure/></testcase><testcase name="t"/>'
    assert [case.outcome for case in read(suite(twice))] == [Outcome.FAILED, Outcome.PASSED]


def test_file_and_line_are_those_of_the_case_or_its_suite():
    found = read(
        suite(
            '<testcase name="a" file="a.py" line="7"/>',
            suite('<testcase name="b" line="x"/>', attributes='name="inner"'),
            '<testcase name="c" file="c.py"><failure>no</failure></testcase>',
            attributes='name="outer" file="s.py"',
        )
    )
    assert [(case.file, case.line) for case in found] == [("a.py", 7), ("s.py", None), ("c.py", None)]
    assert [case.outcome for case in found] == [Outcome.PASSED, Outcome.PASSED, Outcome.FAILED]
    (alone,) = read(suite('<testcase name="d" line="9"/>'))
    assert (alone.file, alone.line) == ("", 9)


def test_nested_suites_give_their_own_name():
    text = suite(
        '<testcase name="a"/>',
        suite('<testcase name="b"/>', attributes='name="inner"'),
        '<testcase name="c"/>',
        attributes='name="outer"',
    )
    assert [(case.suite, case.name) for case in read(f"<testsuites>{text}</testsuites>")] == [
        ("outer", "a"),
        ("inner", "b"),
        ("outer", "c"),
    ]


def test_names_with_a_namespace_and_other_encodings():
    text = '<j:testsuite xmlns:j="urn:x" name="ü"><j:testcase name="é"/></j:testsuite>'
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "iso-8859-1"):
        declared = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>{text}'
        (case,) = read(declared.encode(encoding))
        assert (case.suite, case.name) == ("ü", "é")


@pytest.mark.parametrize(
    "encoding", ["gbk", "GB2312", "Shift_JIS", "EUC-JP", "euc-kr", "big5", "windows-1251"]
)
def test_encodings_that_expat_does_not_read(encoding):
    name = {"windows-1251": "тест", "euc-kr": "시험"}.get(encoding, "中")
    text = suite(" " * 65_400, f'<testcase name="{name * 200}"/>')
    (case,) = read(f'<?xml version="1.0" encoding="{encoding}"?>\n{text}'.encode(encoding))
    assert case.name == name * 200


def test_bytes_that_are_not_in_the_encoding_are_refused():
    for end in (b"\xff\xff</testsuite>", b"</testsuite>\x81"):
        with pytest.raises(ReportRefused, match="not readable XML: 'gbk' codec"):
            read(b'<?xml version="1.0" encoding="gbk"?><testsuite>' + end)


def test_elements_without_end_are_refused(monkeypatch):
    monkeypatch.setattr(xml, "ELEMENT_LIMIT", 5)
    assert len(read(suite(*["<testcase/>"] * 10))) == 10
    with pytest.raises(ReportRefused, match="more than 5 elements"):
        read(suite(*["<p/>"] * 10))


def test_cases_without_end_are_refused(monkeypatch):
    monkeypatch.setattr(xml, "ITEM_LIMIT", 5)
    with pytest.raises(ReportRefused, match="more than 5 entries"):
        read(suite(*["<testcase/>"] * 10))


def test_a_file_cut_anywhere_is_refused():
    text = suite('<testcase name="a"><failure message="m">text</failure></testcase>')
    for end in range(len(text)):
        with pytest.raises(ReportRefused):
            read(text[:end])


def test_no_cases_are_no_error_unless_some_are_declared():
    assert read("<testsuites/>") == []
    assert read(suite(attributes='tests="0"')) == []
    with pytest.raises(ReportRefused, match="declares 5 tests and lists none"):
        read(suite(attributes='tests="5"'))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("<coverage/>", "its root is <coverage>"),
        ('<testcase name="t"/>', "its root is <testcase>"),
        ('<testsuite><testcase name="t"/>', "no element found"),
        ("<testsuite/><testsuite/>", r"junk after document element \(line 1, column 13\)"),
        ("\x1f\x8b\x08\x00", "not well-formed"),
        ('<!DOCTYPE testsuite [<!ENTITY a "b">]><testsuite/>', "declares the entity a"),
        (
            '<!DOCTYPE testsuite [<!ENTITY % a SYSTEM "file:///etc/passwd">]><testsuite/>',
            "declares the entity",
        ),
        ('<!DOCTYPE testsuite [<!ATTLIST testcase a CDATA "b">]><testsuite/>', "declares testcase"),
        ("<!DOCTYPE testsuite [<!ELEMENT testsuite ANY>]><testsuite/>", "declares testsuite"),
        ('<?xml version="1.0" encoding="utf-7"?><testsuite/>', "not readable XML"),
        ('<?xml version="1.0" encoding="klingon"?><testsuite/>', "unknown encoding"),
        ("<testsuite><testcase><testcase/></testcase></testsuite>", "inside another"),
        ("<testsuite>" * 300, "more than 200 deep"),
    ],
)
def test_what_cannot_be_read_says_why(text, reason):
    with pytest.raises(ReportRefused, match=reason):
        read(text)


def test_an_empty_doctype_is_fine():
    assert len(read(f'<!DOCTYPE testsuite SYSTEM "junit.dtd"[]>{suite("<testcase/>")}')) == 1
    assert len(read(f'<!DOCTYPE testsuite SYSTEM "junit.dtd">{suite("<testcase/>")}')) == 1


def test_an_external_entity_is_passed_over():
    text = (
        '<!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuite><testcase><failure>a&x;b</failure>'
    )
    (case,) = read(f"{text}</testcase></testsuite>")
    assert case.details == "ab"


def test_names_without_end_are_refused():
    names = "".join(f"<a{number}/>" for number in range(50_000))
    with pytest.raises(ReportRefused, match="more than 10,000 names"):
        read(suite(names))


def test_an_attribute_of_100_mb_is_refused_before_it_fills_the_memory():
    huge = chain([b'<testsuite><testcase name="'], repeat(b"A" * 100_000, 1000), [b'"/></testsuite>'])
    with pytest.raises(ReportRefused, match="larger than"):
        list(cases(Endless(huge)))


def test_a_log_of_100_mb_is_read_past():
    huge = chain(
        [b'<testsuite><testcase name="t"><system-out>'],
        repeat(b"A" * 100_000, 1000),
        [b"</system-out></testcase></testsuite>"],
    )
    assert len(list(cases(Endless(huge)))) == 1
