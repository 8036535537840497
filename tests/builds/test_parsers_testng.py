"""TestNG's XML: what counts as what, retries, and what is refused."""

import pytest

from apps.builds.parsers import testng
from apps.builds.parsers.case import Case, Outcome
from apps.builds.parsers.errors import ReportRefused
from tests.builds.reading import read


def results(*methods: str, attributes: str = "") -> str:
    classes = f'<class name="a.B">{"".join(methods)}</class>'
    suite = f'<suite name="S"><groups/><test name="T">{classes}</test></suite>'
    return f"<testng-results {attributes}><reporter-output/>{suite}</testng-results>"


def method(inner: str = "", **attributes: str) -> str:
    attributes = {"name": "t", "status": "PASS", "signature": "t()"} | attributes
    told = " ".join(f'{name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f"<test-method {told}>{inner}</test-method>"


def exception(message: str) -> str:
    return (
        f'<exception class="java.lang.E"><message><![CDATA[\n{message}\n]]></message>'
        "<full-stacktrace><![CDATA[java.lang.E: x\n at a.B]]></full-stacktrace></exception>"
    )


def test_a_case_has_suite_class_name_and_duration():
    (case,) = read(testng, results(method(duration_ms="1500")))
    assert case == Case("S / T", "a.B", "t", Outcome.PASSED, 1_500_000_000)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("PASS", Outcome.PASSED),
        ("FAIL", Outcome.FAILED),
        ("SKIP", Outcome.SKIPPED),
        ("SUCCESS_PERCENTAGE_FAILURE", Outcome.UNKNOWN),
        ("", Outcome.UNKNOWN),
    ],
)
def test_statuses(status, outcome):
    (case,) = read(testng, results(method(status=status)))
    assert case.outcome is outcome


def test_configuration_is_no_test():
    setup = method(name="setUp", is_config="true", status="FAIL", inner=exception("no"))
    (case,) = read(testng, results(setup, method(status="SKIP")))
    assert (case.name, case.outcome, case.message) == ("t", Outcome.SKIPPED, "")


def test_message_and_trace_of_a_failure_are_kept():
    (case,) = read(testng, results(method(exception("wanted 1\ngot 2"), status="FAIL")))
    assert (case.message, case.details) == ("wanted 1", "java.lang.E: x\n at a.B")


def test_an_exception_without_a_message_tells_its_class():
    (case,) = read(testng, results(method(exception(""), status="FAIL")))
    assert case.message == "java.lang.E"


def test_an_expected_exception_is_no_message():
    (case,) = read(testng, results(method(exception("as expected"))))
    assert (case.outcome, case.message, case.details) == (Outcome.PASSED, "", "")


def test_retried_methods_are_attempts_of_the_one_that_follows():
    first = method(exception("at first"), status="SKIP", retried="true", duration_ms="5")
    other = method(name="u", signature="u()")
    found = read(testng, results(first, other, method(), method()))
    assert [(case.name, len(case.attempts), case.flaky) for case in found] == [
        ("u", 0, False),
        ("t", 2, True),
        ("t", 0, False),
    ]
    attempt = found[1].attempts[0]
    assert (attempt.outcome, attempt.duration_ns, attempt.message) == (Outcome.FAILED, 5_000_000, "at first")


def test_a_retried_method_that_nothing_follows_stays_a_case():
    (case,) = read(testng, results(method(status="SKIP", retried="true")))
    assert (case.outcome, case.attempts) == (Outcome.SKIPPED, ())


@pytest.mark.parametrize("milliseconds", ["-5", "1,5", "NaN", "", "9" * 30])
def test_what_is_no_duration_is_0(milliseconds):
    (case,) = read(testng, results(method(duration_ms=milliseconds)))
    assert case.duration_ns == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<testsuite/>", "not TestNG's XML: its root is <testsuite>"),
        (results(attributes='total="3"'), "declares 3 tests and lists none"),
        (results(method(method())), "inside another"),
        (results(method())[:-20], "not well-formed"),
    ],
)
def test_what_cannot_be_read_says_why(text, reason):
    with pytest.raises(ReportRefused, match=reason):
        read(testng, text)


def test_a_suite_without_tests_is_no_error():
    assert read(testng, results(attributes='total="0"')) == []
