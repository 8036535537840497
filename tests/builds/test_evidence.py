"""One report: where its raw files are, and which counts contradict each other."""

import io
import zipfile
from collections import Counter
from dataclasses import replace

import pytest

from apps.aws.codebuild import CoverageSummary, Export
from apps.builds import cases, evidence, files
from apps.builds.cases import CaseBook
from apps.builds.evidence import ReportEvidence, read_report, unexplained
from apps.builds.parsers.case import Outcome
from apps.builds.parsers.file_coverage import FileCoverage
from tests.builds.fake import DENIED, FakeAws, install, junit, report_info


@pytest.fixture
def aws(monkeypatch) -> FakeAws:
    return install(monkeypatch)


def read(info, aws: FakeAws, returned: int | None = None) -> ReportEvidence:
    aws.returned[info.arn] = (info.total or 0) if returned is None else returned
    return read_report(info, open_book=lambda group: CaseBook(service=1, group=group), tick=lambda: None)


def named(found: ReportEvidence) -> list:
    """The cases, all of which are new."""
    assert found.cases is not None
    return list(found.cases.named())


def zipped(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.xml", text)
    return content.getvalue()


@pytest.mark.parametrize(
    "key",
    [
        "reports/web-unit/id-1/out/a.xml",
        "reports/id-1/a.xml",
        "reports/web-unit:id-1/a.xml",
        "reports/2026/some-other-way/id-1/a.xml",
    ],
)
def test_raw_files_are_found_by_the_reports_id(aws, key):
    aws.put(key, junit(passed=2, failed=1, skipped=1))
    aws.put("reports/web-unit/id-0/a.xml", junit(passed=9))
    found = read(report_info(total=4), aws)
    assert (found.problem, found.parsed, found.duration_ns) == ("", 4, 4_000_000)
    assert found.outcomes == Counter({Outcome.PASSED: 2, Outcome.FAILED: 1, Outcome.SKIPPED: 1})
    assert [(file.key, file.size) for file in found.files] == [(key, len(aws.objects["bucket", key]))]


def test_a_path_may_be_empty(aws):
    aws.put("web-unit/id-1/a.xml", junit(passed=1))
    assert read(report_info(total=1, export=Export("bucket", "", False)), aws).parsed == 1


def test_zip_archives_are_unpacked(aws):
    aws.put("reports/web-unit/id-1.zip", zipped(a=junit(passed=2), b=junit(passed=1, name="other")))
    found = read(report_info(total=3), aws)
    assert (found.problem, found.parsed) == ("", 3)


def test_any_format_is_read_also_within_an_archive(aws):
    cucumber = '[{"uri": "f", "elements": [{"name": "s", "steps": [{"result": {"status": "failed"}}]}]}]'
    namespace = "http://microsoft.com/schemas/VisualStudio/TeamTest/2010"
    results = '<Results><UnitTestResult testId="1" testName="t" outcome="Passed"/></Results>'
    method = '<UnitTest id="1"><TestMethod className="A"/></UnitTest>'
    trx = f'<TestRun xmlns="{namespace}">{results}<TestDefinitions>{method}</TestDefinitions></TestRun>'
    for text, outcome in ((cucumber, Outcome.FAILED), (trx, Outcome.PASSED)):
        aws.put("reports/web-unit/id-1.zip", zipped(a=text))
        found = read(report_info(total=1), aws)
        assert (found.problem, found.outcomes) == ("", Counter({outcome: 1}))
    assert named(found)[0].class_name == "A"


def test_two_formats_in_one_report_are_refused(aws):
    aws.put("reports/web-unit/id-1/a.xml", junit(passed=3))
    aws.put("reports/web-unit/id-1/b.xml", "<test-run/>")
    problem = read(report_info(total=3), aws).problem
    assert problem.startswith("b.xml: the report has files of two formats, JUNITXML and NUNIT3XML; 3 test")


def test_files_are_read_in_the_order_of_keys_so_that_ordinals_stay(aws):
    for name in "ba":
        aws.put(f"reports/web-unit/id-1/{name}.xml", junit(passed=1))
    found = read(report_info(total=2), aws)
    first, second = named(found)
    assert [(each.name, each.ordinal) for each in (first, second)] == [("test_0", 0), ("test_0", 1)]
    assert first.id != second.id


@pytest.mark.parametrize(
    ("declared", "returned", "parsed", "truncated", "fine"),
    [
        (3, 3, 3, False, True),
        (0, 0, 0, False, True),
        (3, 3, 2, False, False),
        (3, 2, 3, False, False),
        (2, 3, 3, False, False),
        (None, 3, 3, False, False),
        (700, 500, 700, True, True),
        (500, 500, 700, True, True),
        (700, 499, 700, True, False),
        (700, 500, 699, True, False),
        (500, 500, 500, True, False),
        (400, 400, 400, True, False),
        (700, 500, 700, False, False),
    ],
)
def test_counts(declared, returned, parsed, truncated, fine):
    info = report_info(total=declared, truncated=truncated)
    book = CaseBook(service=1, group="g")
    book.count = parsed
    problem = unexplained(ReportEvidence(info, returned=returned, cases=book))
    assert (problem == "") is fine
    if not fine:
        assert str(parsed) in problem
        assert "unknown" in problem if declared is None else str(declared) in problem


def test_failures_that_codebuild_saw_must_be_in_the_raw_files(aws):
    aws.put("reports/web-unit/id-1/a.xml", junit(passed=3))
    found = read(report_info(total=3, counts={"SUCCEEDED": 1, "FAILED": 1, "ERROR": 1}), aws)
    assert found.problem == "CodeBuild counted 2 failed or in error, and the raw files hold 0"


@pytest.mark.parametrize(
    ("fields", "problem", "late"),
    [
        ({"type": "SBOM"}, "reports of type SBOM are not read", False),
        ({"status": "GENERATING"}, "has not finished", True),
        ({"status": "INCOMPLETE"}, "CodeBuild says INCOMPLETE", False),
        ({"status": "DELETING"}, "CodeBuild says DELETING", False),
        ({"export": None}, "exports no raw files", False),
        ({"export": Export("bucket", "elsewhere", False)}, "no raw files of it below", True),
    ],
)
def test_what_makes_a_report_incomplete(aws, fields, problem, late):
    aws.put("reports/web-unit/id-1/a.xml", junit(passed=3))
    found = read(report_info(total=3, **fields), aws)
    assert problem in found.problem
    assert (found.parsed, found.cases, found.late) == (None, None, late)


@pytest.mark.parametrize(
    ("key", "body", "problem"),
    [
        ("b.xml", "<testsuite><testcase", "b.xml: not well-formed"),
        ("b.xml", "<coverage/>", "b.xml: the report has files of two formats"),
        ("b.xml", "", "b.xml: the file is empty"),
        ("b.zip", b"PK\x05\x06", "b.zip is not a readable ZIP"),
        ("b.zip", zipped(c="<testsuite"), "c.xml: not well-formed"),
        ("b.zip", zipped(c=junit(passed=50)).replace(b"\x00\x00c.xml", b"\x00\x00d.xml", 1), "b.zip"),
    ],
)
def test_one_unreadable_file_spoils_the_report_and_what_was_read_is_kept(aws, key, body, problem):
    aws.put("reports/web-unit/id-1/a.xml", junit(passed=3))
    aws.put(f"reports/web-unit/id-1/{key}", body)
    found = read(report_info(total=3), aws)
    assert problem in found.problem
    assert found.problem.endswith("; 3 test cases were read before that")
    assert (found.parsed, found.outcomes) == (3, Counter({Outcome.PASSED: 3}))
    assert len(named(found)) == 3


def test_a_file_that_breaks_off_says_where_and_keeps_its_beginning(aws):
    text = junit(passed=2, failed=1).replace("</testsuite>", "\n<testcase name=")
    aws.put("reports/web-unit/id-1/a.xml", text)
    found = read(report_info(total=4), aws)
    assert found.problem.startswith("a.xml: not well-formed XML: ")
    assert "(line 2, column" in found.problem
    assert (found.parsed, found.outcomes[Outcome.FAILED]) == (3, 1)


def cobertura(**files: str) -> str:
    """Cobertura's XML; of each file a digit for each line, how often it was run."""
    classes = "".join(
        f'<class filename="{name}.py"><lines>'
        + "".join(f'<line number="{number}" hits="{hits}"/>' for number, hits in enumerate(lines, 1))
        + "</lines></class>"
        for name, lines in files.items()
    )
    return f'<coverage lines-valid="999" lines-covered="999">{classes}</coverage>'


def coverage_info(covered: int | None = 2, total: int = 4, **fields):
    summary = None if covered is None else CoverageSummary(covered, total)
    return report_info("web-cov", None, type="CODE_COVERAGE", coverage=summary, **fields)


def test_coverage_is_read_from_all_raw_files_and_no_test_case_is_asked_for(aws):
    aws.put("reports/web-cov/id-1/a.xml", cobertura(a="10"))
    aws.put("reports/web-cov/id-1/b.xml", cobertura(b="10"))
    found = read(coverage_info(), aws)
    assert (found.problem, found.parsed, found.returned, found.cases) == ("", None, None, None)
    assert found.coverage.files() == [FileCoverage("a.py", 1, 2, 0, 0), FileCoverage("b.py", 1, 2, 0, 0)]
    assert len(found.files) == 2
    assert "count_test_cases" not in aws.asked


def test_coverage_in_an_archive(aws):
    aws.put("reports/web-cov/id-1.zip", zipped(a=cobertura(a="10"), b=cobertura(b="01")))
    found = read(coverage_info(), aws)
    assert (found.problem, found.coverage.sum().lines_covered) == ("", 2)


def test_a_file_that_several_raw_files_tell_of_is_one_with_the_sum_of_its_lines(aws):
    for name in "xy":
        aws.put(f"reports/web-cov/id-1/{name}.xml", cobertura(a="10"))
    assert read(coverage_info(), aws).coverage.files() == [FileCoverage("a.py", 2, 4, 0, 0)]


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        (
            coverage_info(999, 1_999),
            "CodeBuild counted 999 of 1,999 lines as covered, and the raw files hold 1 of 2",
        ),
        (coverage_info(1, 3), "CodeBuild counted 1 of 3 lines as covered"),
        (coverage_info(0, 2), "and the raw files hold 1 of 2"),
        (coverage_info(None), "CodeBuild gives no summary"),
    ],
)
def test_lines_that_differ_from_codebuilds_are_a_problem_with_the_numbers(aws, info, problem):
    aws.put("reports/web-cov/id-1/a.xml", cobertura(a="10"))
    found = read(info, aws)
    assert problem in found.problem
    # What was read is kept, and marked by the problem.
    assert found.coverage.sum().lines_total == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (cobertura(a="10")[:-5], "b.xml: not well-formed XML"),
        (junit(passed=1), "b.xml: the report has files of two formats, COBERTURAXML and JUNITXML"),
        ('{"coverage": {}}', "two formats"),
        ("", "b.xml: the file is empty"),
    ],
)
def test_one_unreadable_file_spoils_the_coverage(aws, text, problem):
    aws.put("reports/web-cov/id-1/a.xml", cobertura(a="10"))
    aws.put("reports/web-cov/id-1/b.xml", text)
    found = read(coverage_info(1, 2), aws)
    assert problem in found.problem
    assert found.coverage is None


def test_coverage_without_a_line_and_tests_in_its_place_are_refused(aws):
    aws.put("reports/web-cov/id-1/a.xml", cobertura(a=""))
    assert read(coverage_info(0, 0), aws).problem == "its raw files tell of no line"
    aws.put("reports/web-cov/id-1/a.xml", junit(passed=1))
    assert "it is a test report (JUnit XML), not a coverage report" in read(coverage_info(0, 0), aws).problem
    aws.put("reports/web-unit/id-1/a.xml", cobertura(a="1"))
    assert "it is a coverage report (Cobertura), not a test report" in read(report_info(), aws).problem


def test_coverage_without_an_export_cannot_be_checked(aws):
    assert "what is behind CodeBuild's numbers: set exportConfig of web-cov" in (
        read(coverage_info(export=None), aws).problem
    )


def test_limits(aws, monkeypatch):
    monkeypatch.setattr(evidence, "FILE_LIMIT", 2)
    monkeypatch.setattr(files, "BYTE_LIMIT", 2000)
    monkeypatch.setattr(cases, "CASE_LIMIT", 10)
    info = report_info(total=1)
    place = "reports/web-unit/id-1"
    aws.put(f"{place}/a.xml", junit(passed=11))
    found = read(info, aws)
    assert "more than 10 test cases" in found.problem
    assert found.parsed == 10
    aws.put(f"{place}/a.xml", junit(passed=40))
    assert "at most 2,000 are read" in read(info, aws).problem
    aws.put(f"{place}/a.zip", zipped(a=junit(passed=10), b=junit(passed=30)))
    del aws.objects["bucket", f"{place}/a.xml"]
    assert "unpacks to more than 2,000 bytes" in read(info, aws).problem
    for name in "abc":
        aws.put(f"{place}/{name}.xml", junit(passed=1))
    assert "more than 2 raw files" in read(info, aws).problem


def test_a_file_that_disappears_is_a_problem_and_a_refusal_is_not(aws):
    aws.put("reports/web-unit/id-1/a.xml", junit(passed=3))
    aws.errors["download"] = replace_code(DENIED, "NoSuchKey")
    assert "disappeared" in read(report_info(total=3), aws).problem
    aws.errors["download"] = DENIED
    with pytest.raises(type(DENIED)):
        read(report_info(total=3), aws)


def replace_code(error, code):
    return type(error)(str(error), retryable=error.retryable, code=code)


def test_the_report_is_known_by_the_last_part_of_its_arn():
    assert replace(report_info(), arn="arn:aws:codebuild:eu:1:report/a-b:uuid-1").id == "uuid-1"
