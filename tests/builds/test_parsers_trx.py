"""Visual Studio's TRX: what counts as what, where the class comes from, and what is refused."""

import pytest

from apps.builds.parsers import trx
from apps.builds.parsers.case import Case, Outcome
from apps.builds.parsers.errors import ReportRefused
from tests.builds.reading import read

DEFINITIONS = (
    r'<TestDefinitions><UnitTest id="1" name="t"><Execution id="9"/>'
    r'<TestMethod codeBase="D:\w\7\Tests.dll" className="A.B, Tests, Version=1.0.0.0" name="t"/></UnitTest>'
    "</TestDefinitions>"
)


def run(*parts: str) -> str:
    namespace = "http://microsoft.com/schemas/VisualStudio/TeamTest/2010"
    return f'<?xml version="1.0"?><TestRun xmlns="{namespace}">{"".join(parts)}</TestRun>'


def results(*each: str) -> str:
    return f"<Results>{''.join(each)}</Results>"


def result(inner: str = "", outcome: str = 'outcome="Passed"', tag: str = "UnitTestResult") -> str:
    return f'<{tag} testId="1" testName="t" duration="00:00:01.5000000" {outcome}>{inner}</{tag}>'


def error(message: str, trace: str = "") -> str:
    trace = trace and f"<StackTrace>{trace}</StackTrace>"
    return f"<Output><StdOut>log</StdOut><ErrorInfo><Message>{message}</Message>{trace}</ErrorInfo></Output>"


@pytest.mark.parametrize("parts", [(DEFINITIONS, results(result())), (results(result()), DEFINITIONS)])
def test_suite_and_class_come_from_the_definition_wherever_it_stands(parts):
    assert read(trx, run(*parts)) == [Case("Tests.dll", "A.B", "t", Outcome.PASSED, 1_500_000_000)]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("Passed", Outcome.PASSED),
        ("Completed", Outcome.PASSED),
        ("Warning", Outcome.PASSED),
        ("Failed", Outcome.FAILED),
        ("Error", Outcome.ERROR),
        ("Timeout", Outcome.ERROR),
        ("Aborted", Outcome.ERROR),
        ("PassedButRunAborted", Outcome.ERROR),
        ("Disconnected", Outcome.ERROR),
        ("NotExecuted", Outcome.SKIPPED),
        ("NotRunnable", Outcome.SKIPPED),
        ("Inconclusive", Outcome.SKIPPED),
        ("InProgress", Outcome.UNKNOWN),
        ("Pending", Outcome.UNKNOWN),
        ("Splendid", Outcome.UNKNOWN),
    ],
)
def test_outcomes(outcome, expected):
    (case,) = read(trx, run(results(result(outcome=f'outcome="{outcome}"'))))
    assert case.outcome is expected


def test_no_outcome_is_an_error():
    (case,) = read(trx, run(results(result(outcome=""))))
    assert case.outcome is Outcome.ERROR


def test_message_and_trace_of_a_failure_are_kept():
    (case,) = read(trx, run(results(result(error("wanted 1\ngot 2", "at A.B"), 'outcome="Failed"'))))
    assert (case.message, case.details) == ("wanted 1", "wanted 1\ngot 2\nat A.B")


def test_rows_of_a_data_driven_test_are_one_case_with_the_first_message():
    rows = "".join(
        result(error(text), 'outcome="Failed"') if text else result() for text in ("", "second", "third")
    )
    (case,) = read(trx, run(results(result(f"<InnerResults>{rows}</InnerResults>", 'outcome="Failed"'))))
    assert (case.name, case.outcome, case.message, case.details) == ("t", Outcome.FAILED, "second", "third")


def test_a_test_is_never_better_than_its_worst_row():
    failed = result(outcome='outcome="Failed"')
    (case,) = read(trx, run(results(result(f"<InnerResults>{failed}{result()}</InnerResults>"))))
    assert case.outcome is Outcome.FAILED


def test_a_skipped_row_skips_no_test():
    skipped = result(outcome='outcome="NotExecuted"')
    (case,) = read(trx, run(results(result(f"<InnerResults>{skipped}{result()}</InnerResults>"))))
    assert case.outcome is Outcome.PASSED


def test_other_kinds_of_tests_count_too():
    kinds = ("CodedWebTestResult", "GenericTestResult", "TestResultAggregation", "ManualTestResult")
    assert len(read(trx, run(results(*(result(tag=kind) for kind in kinds))))) == len(kinds)


def test_a_test_without_a_definition_has_no_class():
    (case,) = read(trx, run(results(result())))
    assert (case.suite, case.class_name) == ("", "")


def test_tests_are_bounded(monkeypatch):
    monkeypatch.setattr(trx, "TEST_LIMIT", 2)
    with pytest.raises(ReportRefused, match="more than 2 tests"):
        read(trx, run(results(*[result()] * 3)))
    tests = "".join(f'<UnitTest id="{number}"><TestMethod className="A"/></UnitTest>' for number in range(3))
    with pytest.raises(ReportRefused, match="more than 2 tests"):
        read(trx, run(f"<TestDefinitions>{tests}</TestDefinitions>"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<TestRuns/>", "not Visual Studio's TRX: its root is <TestRuns>"),
        (run(results(result("&#x1C;"))), "invalid character number"),
        (run(results(result()))[:-5], "not well-formed"),
    ],
)
def test_what_cannot_be_read_says_why(text, reason):
    with pytest.raises(ReportRefused, match=reason):
        read(trx, text)
