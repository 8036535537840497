"""JUnit XML: what counts as what, and what is refused."""

import io
from collections.abc import Iterable
from itertools import chain, repeat

import pytest

from apps.builds.parsers.case import Case, Outcome, ParseError
from apps.builds.parsers.junit import duration_ns, parse


def read(text: str | bytes) -> list[Case]:
    return list(parse(io.BytesIO(text.encode() if isinstance(text, str) else text)))


def suite(*cases: str, attributes: str = 'name="s"') -> str:
    return f"<testsuite {attributes}>{''.join(cases)}</testsuite>"


class Endless(io.RawIOBase):
    """A file made of pieces, so that large ones need no memory."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces, self.rest = iter(pieces), b""

    def read(self, size: int = -1) -> bytes:
        while len(self.rest) < size and (piece := next(self.pieces, b"")):
            self.rest += piece
        part, self.rest = self.rest[:size], self.rest[size:]
        return part


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
    assert (case.outcome, case.message) == (outcome, message)


def test_a_message_is_cut():
    (case,) = read(suite(f'<testcase name="t"><failure>{"x" * 100_000}</failure></testcase>'))
    assert len(case.message) == 4000


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


def test_no_cases_are_no_error_unless_some_are_declared():
    assert read("<testsuites/>") == []
    assert read(suite(attributes='tests="0"')) == []
    with pytest.raises(ParseError, match="declares 5 tests and lists none"):
        read(suite(attributes='tests="5"'))


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1.5", 1_500_000_000),
        (" 2 ", 2_000_000_000),
        ("1e-3", 1_000_000),
        ("1,234.5", 1_234_500_000_000),
        ("1,234,567", 1_234_567_000_000_000),
        ("0,12", 120_000_000),
        ("", 0),
        ("NaN", 0),
        ("-1", 0),
        ("inf", 0),
        ("1e400", 0),
        ("fast", 0),
    ],
)
def test_durations(text, nanoseconds):
    assert duration_ns(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("<coverage/>", "its root is <coverage>"),
        ('<testcase name="t"/>', "its root is <testcase>"),
        ('<testsuite><testcase name="t"/>', "no element found"),
        ("<testsuite/><testsuite/>", r"junk after document element \(line 1, column 13\)"),
        ("\x1f\x8b\x08\x00", "not well-formed"),
        ('<!DOCTYPE testsuite [<!ENTITY a "b">]><testsuite/>', "internal subset"),
        ('<!DOCTYPE testsuite SYSTEM "file:///etc/passwd" []><testsuite/>', "internal subset"),
        ('<?xml version="1.0" encoding="utf-7"?><testsuite/>', "not readable XML"),
        ('<?xml version="1.0" encoding="klingon"?><testsuite/>', "unknown encoding"),
        ("<testsuite><testcase><testcase/></testcase></testsuite>", "inside another"),
        ("<testsuite>" * 300, "more than 200 deep"),
    ],
)
def test_what_cannot_be_read_says_why(text, reason):
    with pytest.raises(ParseError, match=reason):
        read(text)


def test_a_doctype_alone_is_fine():
    assert len(read(f'<!DOCTYPE testsuite SYSTEM "junit.dtd">{suite("<testcase/>")}')) == 1


def test_an_attribute_of_100_mb_is_refused_before_it_fills_the_memory():
    huge = chain([b'<testsuite><testcase name="'], repeat(b"A" * 100_000, 1000), [b'"/></testsuite>'])
    with pytest.raises(ParseError, match="larger than"):
        list(parse(Endless(huge)))


def test_a_log_of_100_mb_is_read_past():
    huge = chain(
        [b'<testsuite><testcase name="t"><system-out>'],
        repeat(b"A" * 100_000, 1000),
        [b"</system-out></testcase></testsuite>"],
    )
    assert len(list(parse(Endless(huge)))) == 1
