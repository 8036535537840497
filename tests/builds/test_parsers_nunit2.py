"""NUnit 2's XML: what counts as what, names, and what is refused."""

import pytest

from apps.builds.parsers import nunit2
from apps.builds.parsers.case import Case, Outcome
from apps.builds.parsers.errors import ReportRefused
from tests.builds.reading import read


def results(*cases: str, attributes: str = "") -> str:
    suite = rf'<test-suite name="C:\work\7\Tests.dll"><results>{"".join(cases)}</results></test-suite>'
    return f"<test-results {attributes}>{suite}</test-results>"


def test_a_case_has_suite_class_name_and_duration():
    (case,) = read(nunit2, results('<test-case name="A.B.Test" result="Success" time="1.5"/>'))
    assert case == Case("Tests.dll", "A.B", "Test", Outcome.PASSED, 1_500_000_000)


@pytest.mark.parametrize(
    ("attributes", "outcome"),
    [
        ('result="Success" executed="True"', Outcome.PASSED),
        ('result="Failure" success="False"', Outcome.FAILED),
        ('result="Error"', Outcome.ERROR),
        ('result="Cancelled"', Outcome.ERROR),
        ('result="Ignored" executed="False"', Outcome.SKIPPED),
        ('result="Skipped"', Outcome.SKIPPED),
        ('result="NotRunnable"', Outcome.SKIPPED),
        ('result="Inconclusive" executed="True" success="False"', Outcome.SKIPPED),
        ('result="Splendid"', Outcome.UNKNOWN),
        ('executed="True" success="True"', Outcome.PASSED),
        ('executed="True" success="False"', Outcome.FAILED),
        ('executed="False"', Outcome.SKIPPED),
        ("", Outcome.UNKNOWN),
    ],
)
def test_outcomes_of_all_versions(attributes, outcome):
    (case,) = read(nunit2, results(f'<test-case name="A.T" {attributes}/>'))
    assert case.outcome is outcome


@pytest.mark.parametrize(
    ("full", "class_name", "name"),
    [
        ("A.B.Test", "A.B", "Test"),
        ("A.B.Test(9.2d,11.7d)", "A.B", "Test(9.2d,11.7d)"),
        ("A.B<C.D>(1.5).Test", "A.B<C.D>(1.5)", "Test"),
        ('A.B.Test("x.y(")', "A.B", 'Test("x.y(")'),
        (r'A.B.Test("\".")', "A.B", r'Test("\".")'),
        ("Test", "", "Test"),
        (".", "", "."),
        ("A.", "", "A."),
        ("", "", ""),
    ],
)
def test_a_full_name_is_class_and_name(full, class_name, name):
    assert nunit2.split_name(full) == (class_name, name)


def test_message_and_trace_of_a_failure_are_kept():
    failure = "<failure><message>wanted 1\ngot 2</message><stack-trace>at A.B</stack-trace></failure>"
    (case,) = read(nunit2, results(f'<test-case name="T" result="Failure">{failure}</test-case>'))
    assert (case.message, case.details) == ("wanted 1", "wanted 1\ngot 2\nat A.B")


def test_a_message_elsewhere_is_none_of_the_case():
    properties = "<properties><message>no</message></properties><reason><message>later</message></reason>"
    (case,) = read(nunit2, results(f'<test-case name="T" result="Ignored">{properties}</test-case>'))
    assert (case.message, case.details) == ("later", "")


def test_suites_side_by_side_have_their_own_names():
    one, two = (
        f'<test-suite name="/w/{name}"><test-case name="T"/></test-suite>' for name in ("a.dll", "b.dll")
    )
    found = read(nunit2, f'<test-results><test-suite name="">{one}{two}</test-suite></test-results>')
    assert [case.suite for case in found] == ["a.dll", "b.dll"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<test-run/>", "not NUnit 2 XML: its root is <test-run>"),
        (results(attributes='total="3"'), "declares 3 tests and lists none"),
        (results("<test-case><test-case/></test-case>"), "inside another"),
        (results("<test-case>")[:60], "not well-formed"),
    ],
)
def test_what_cannot_be_read_says_why(text, reason):
    with pytest.raises(ReportRefused, match=reason):
        read(nunit2, text)
