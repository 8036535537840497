"""NUnit 3's XML: what counts as what, and what is refused."""

import pytest

from apps.builds.parsers import nunit3
from apps.builds.parsers.case import Case, Outcome
from apps.builds.parsers.errors import ReportRefused
from tests.builds.reading import read


def run(*cases: str, attributes: str = "") -> str:
    fixture = f'<test-suite type="TestFixture" name="B">{"".join(cases)}</test-suite>'
    suite = f'<test-suite type="Assembly" name="/w/7/Tests.dll">{fixture}</test-suite>'
    return f"<test-run {attributes}>{suite}</test-run>"


def test_a_case_has_suite_class_name_and_duration():
    attributes = 'name="T(1)" fullname="A.B.T(1)" classname="A.B" methodname="T" duration="0.25"'
    (case,) = read(nunit3, run(f'<test-case {attributes} result="Passed"/>'))
    assert case == Case("Tests.dll", "A.B", "T(1)", Outcome.PASSED, 250_000_000)


@pytest.mark.parametrize(
    ("attributes", "outcome"),
    [
        ('result="Passed"', Outcome.PASSED),
        ('result="Warning"', Outcome.PASSED),
        ('result="Failed"', Outcome.FAILED),
        ('result="Failed" site="SetUp"', Outcome.FAILED),
        ('result="Failed" label="Test exceeded Timeout value 1ms."', Outcome.FAILED),
        ('result="Failed" label="Error"', Outcome.ERROR),
        ('result="Failed" label="Invalid"', Outcome.ERROR),
        ('result="Failed" label="Cancelled"', Outcome.ERROR),
        ('result="Skipped" label="Ignored"', Outcome.SKIPPED),
        ('result="Skipped" label="Explicit"', Outcome.SKIPPED),
        ('result="Inconclusive"', Outcome.SKIPPED),
        ('result="Splendid"', Outcome.UNKNOWN),
        ("", Outcome.UNKNOWN),
    ],
)
def test_outcomes_and_labels(attributes, outcome):
    (case,) = read(nunit3, run(f'<test-case name="T" {attributes}/>'))
    assert case.outcome is outcome


def test_message_and_trace_of_a_failure_are_kept():
    failure = (
        "<failure><message><![CDATA[wanted 1]]></message><stack-trace>at A.B</stack-trace></failure>"
        "<output><message>log</message></output><assertions><assertion><message>again</message></assertion>"
        "</assertions>"
    )
    (case,) = read(nunit3, run(f'<test-case name="T" result="Failed">{failure}</test-case>'))
    assert (case.message, case.details) == ("wanted 1", "at A.B")


def test_a_failure_without_a_message_begins_with_its_trace():
    failure = "<failure><stack-trace>at A.B\nat C</stack-trace></failure>"
    (case,) = read(nunit3, run(f'<test-case name="T" result="Failed">{failure}</test-case>'))
    assert (case.message, case.details) == ("at A.B", "at A.B\nat C")


def test_what_is_told_of_a_suite_is_of_no_case():
    failure = "<failure><message>One or more child tests had errors</message></failure>"
    (case,) = read(nunit3, run(failure, '<test-case name="T" result="Passed"/>', failure))
    assert (case.outcome, case.message) == (Outcome.PASSED, "")


def test_a_run_without_tests_is_no_error():
    assert read(nunit3, '<test-run testcasecount="0" total="0"/>') == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<test-results/>", "not NUnit 3 XML: its root is <test-results>"),
        (run(attributes='total="3"'), "declares 3 tests and lists none"),
        (run("<test-case>\0</test-case>"), r"not well-formed XML: .*\(line 1, column \d+\)"),
    ],
)
def test_what_cannot_be_read_says_why(text, reason):
    with pytest.raises(ReportRefused, match=reason):
        read(nunit3, text)
