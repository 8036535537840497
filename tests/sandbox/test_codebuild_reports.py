"""Reports through the API: groups, cases, the limit of 500, raw export, hostile files."""

import io
import zipfile

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.integration

SPEC = """
version: 0.2
phases:
  build:
    commands: ["true"]
reports:
  unit:
    files: ["**/*.xml"]
    base-directory: out
"""


def junit(**outcomes):
    """Return JUnit XML with so many cases of each outcome."""
    child = {"passed": "", "failed": '<failure message="no"/>', "errors": "<error/>", "skipped": "<skipped/>"}
    cases = "".join(
        f'<testcase classname="tests.{outcome}" name="{outcome}-{number}" time="0.001">'
        f"{child[outcome]}</testcase>"
        for outcome, count in outcomes.items()
        for number in range(count)
    )
    return f'<testsuite name="suite">{cases}</testsuite>'


def report_of(builder, build):
    (arn,) = build["reportArns"]
    (report,) = builder.codebuild.batch_get_reports(reportArns=[arn])["reports"]
    return report


def cases_of(builder, arn, **params):
    """Return all test cases of a report, page by page."""
    cases, token = [], None
    while True:
        answer = builder.codebuild.describe_test_cases(
            reportArn=arn, **params, **({"nextToken": token} if token else {})
        )
        cases += answer["testCases"]
        token = answer.get("nextToken")
        if not token:
            return cases


def test_a_report_counts_and_keeps_every_case(builder):
    build = builder.run(SPEC, {"out/a.xml": junit(passed=2, failed=1), "out/b/c.xml": junit(skipped=1)})
    assert build["buildStatus"] == "SUCCEEDED"  # failing tests do not fail a build; its commands do
    report = report_of(builder, build)
    assert report["status"] == "FAILED"
    assert report["type"] == "TEST"
    assert report["name"] == f"{builder.name}-unit"
    assert report["executionId"] == build["arn"]
    assert report["truncated"] is False
    assert report["testSummary"] == {
        "total": 4,
        "statusCounts": {"SUCCEEDED": 2, "FAILED": 1, "ERROR": 0, "SKIPPED": 1, "UNKNOWN": 0},
        "durationInNanoSeconds": 4_000_000,
    }
    assert (report["expired"] - report["created"]).days == 30
    (failed,) = cases_of(builder, report["arn"], filter={"status": "FAILED"})
    assert failed["name"] == "failed-0"
    assert failed["prefix"] == "tests.failed"
    assert failed["testSuiteName"] == "suite"
    assert failed["message"] == "no"
    assert failed["testRawDataPath"] == "a.xml"
    assert failed["durationInNanoSeconds"] == 1_000_000
    by_keyword = cases_of(builder, report["arn"], filter={"keyword": "tests.skip"})
    assert [case["testRawDataPath"] for case in by_keyword] == ["b/c.xml"]


def test_only_500_cases_are_kept_failed_first_but_all_are_counted(builder):
    build = builder.run(SPEC, {"out/a.xml": junit(passed=600, errors=20, failed=30)})
    report = report_of(builder, build)
    assert report["truncated"] is True
    assert report["testSummary"]["total"] == 650
    assert report["testSummary"]["statusCounts"]["ERROR"] == 20
    cases = cases_of(builder, report["arn"])
    assert len(cases) == 500
    statuses = [case["status"] for case in cases]
    assert statuses[:30] == ["FAILED"] * 30
    assert set(statuses[30:]) == {"SUCCEEDED"}  # the errors came after 500 others: gone
    page = builder.codebuild.describe_test_cases(reportArn=report["arn"], maxResults=7)
    assert len(page["testCases"]) == 7
    assert cases_of(builder, report["arn"], maxResults=99) == cases
    with pytest.raises(ClientError, match="Invalid next token"):
        builder.codebuild.describe_test_cases(reportArn=report["arn"], nextToken="mine")


@pytest.mark.parametrize("packaging", ["NONE", "ZIP"])
def test_raw_files_are_exported(builder, packaging):
    destination = {"bucket": builder.bucket, "path": "reports", "packaging": packaging}
    group = builder.codebuild.create_report_group(
        name=f"{builder.name}-own",
        type="TEST",
        exportConfig={"exportConfigType": "S3", "s3Destination": destination},
    )["reportGroup"]
    spec = SPEC.replace("  unit:", f"  {group['arn']}:")
    text = junit(passed=600)
    build = builder.run(spec, {"out/sub/a.xml": text})
    report = report_of(builder, build)
    assert report["reportGroupArn"] == group["arn"]
    assert report["exportConfig"]["s3Destination"]["bucket"] == builder.bucket
    identifier = report["arn"].rpartition(":")[2]
    keys = [each["Key"] for each in builder.s3.list_objects_v2(Bucket=builder.bucket)["Contents"]]
    (key,) = [key for key in keys if key.startswith("reports/") and identifier in key]
    raw = builder.s3.get_object(Bucket=builder.bucket, Key=key)["Body"].read()
    if packaging == "ZIP":
        raw = zipfile.ZipFile(io.BytesIO(raw)).read("sub/a.xml")
    else:
        assert key == f"reports/{builder.name}-own/{identifier}/sub/a.xml"
    assert raw.decode() == text


def test_a_group_made_beforehand_is_used_by_its_name(builder):
    destination = {"bucket": builder.bucket, "path": "raw"}
    builder.codebuild.create_report_group(
        name=f"{builder.name}-unit",
        type="TEST",
        exportConfig={"exportConfigType": "S3", "s3Destination": destination},
    )
    builder.run(SPEC, {"out/a.xml": junit(passed=1)})
    found = builder.s3.list_objects_v2(Bucket=builder.bucket, Prefix="raw/")["Contents"]
    assert [each["Key"].rpartition("/")[2] for each in found] == ["a.xml"]


@pytest.mark.parametrize(
    ("prepare", "log"),
    [
        ("mkdir -p out", "Assembling file list"),
        ("true", "report files not found"),
        ("mkdir out; ln -s /etc/passwd out/a.xml", "a.xml: not a regular file"),
        ("mkdir out; mkfifo out/a.xml", "a.xml: not a regular file"),
        ("mkdir out; ln -s /dev/zero out/a.xml", "a.xml: not a regular file"),
        ("ln -s /etc out; true", "report files not found"),
    ],
)
def test_a_report_without_files_is_incomplete_and_fails_the_upload(builder, prepare, log):
    build = builder.run(SPEC.replace('"true"', f'"{prepare}"'))
    assert build["buildStatus"] == "FAILED"
    upload = next(p for p in build["phases"] if p["phaseType"] == "UPLOAD_ARTIFACTS")
    assert upload["contexts"] == [
        {
            "statusCode": "CLIENT_ERROR",
            "message": "Error in UPLOAD_ARTIFACTS phase: [unit: [report files not found in build]]",
        }
    ]
    report = report_of(builder, build)
    assert report["status"] == "INCOMPLETE"
    assert report["testSummary"]["total"] == 0
    assert log in builder.log(build)


@pytest.mark.parametrize(
    ("text", "log"),
    [
        ("<testsuite><testcase>", "not well-formed XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><testsuite/>', "it declares the entity b"),
        ("<html/>", "its root <html> belongs to no known format"),
    ],
)
def test_a_file_that_cannot_be_read_makes_the_report_incomplete(builder, text, log):
    build = builder.run(SPEC, {"out/bad.xml": text, "out/good.xml": junit(passed=1)})
    assert build["buildStatus"] == "SUCCEEDED"
    assert report_of(builder, build)["status"] == "INCOMPLETE"
    assert f"bad.xml: {log}" in builder.log(build)


def test_a_build_that_ends_early_leaves_its_report_incomplete(builder):
    spec = SPEC.replace("  build:\n", "  install: {commands: ['false']}\n  build:\n")
    report = report_of(builder, builder.run(spec, {"out/a.xml": junit(passed=1)}))
    assert report["status"] == "INCOMPLETE"


def test_every_format_is_read_as_the_product_reads_it(builder):
    case = '<test-case name="A.T" result="{}"/>'
    nunit = f'<test-results><test-suite name="A.dll"><results>{case}</results></test-suite></test-results>'
    files = {"out/a.xml": nunit.format("Failure"), "out/b.xml": nunit.format("Ignored")}
    report = report_of(builder, builder.run(SPEC + "    file-format: NUNITXML\n", files))
    assert report["status"] == "FAILED"
    assert report["testSummary"]["statusCounts"]["SKIPPED"] == 1
    assert {case["prefix"] for case in cases_of(builder, report["arn"])} == {"A"}


def test_a_file_in_another_format_than_the_buildspec_says_is_not_read(builder):
    build = builder.run(SPEC + "    file-format: NUNITXML\n", {"out/a.xml": junit(passed=1)})
    assert report_of(builder, build)["status"] == "INCOMPLETE"
    assert "a.xml: it is declared as NUNITXML, and its content is JUNITXML" in builder.log(build)


def test_coverage_is_summed_up(builder):
    lines = '<line number="1" hits="1" condition-coverage="50% (1/2)"/><line number="2" hits="0"/>'
    files = {
        f"out/{name}.xml": f'<coverage><class filename="{name}.py"><lines>{lines}</lines></class></coverage>'
        for name in ("a", "b")
    }
    build = builder.run(SPEC + "    file-format: COBERTURAXML\n", files)
    report = report_of(builder, build)
    assert (report["type"], report["status"]) == ("CODE_COVERAGE", "SUCCEEDED")
    assert "testSummary" not in report
    assert report["codeCoverageSummary"] == {
        "linesCovered": 2,
        "linesMissed": 2,
        "lineCoveragePercentage": 50.0,
        "branchesCovered": 2,
        "branchesMissed": 2,
        "branchCoveragePercentage": 50.0,
    }
    assert "2 of 4 lines covered" in builder.log(build)
    found = builder.codebuild.describe_code_coverages(reportArn=report["arn"], sortOrder="DESCENDING")
    assert [file["filePath"] for file in found["codeCoverages"]] == ["b.py", "a.py"]
    file = found["codeCoverages"][0]
    assert (file["linesCovered"], file["linesMissed"], file["lineCoveragePercentage"]) == (1, 1, 50.0)
    assert (file["reportARN"], file["expired"]) == (report["arn"], report["expired"])


def test_files_of_a_coverage_report_are_sorted_filtered_and_paged(builder):
    def lines(run):
        each = (f'<line number="{number}" hits="{int(number <= run)}"/>' for number in range(1, 5))
        return f"<lines>{''.join(each)}</lines>"

    shares = {"a": 4, "b": 0, "c": 2}
    classes = "".join(f'<class filename="{name}">{lines(run)}</class>' for name, run in shares.items())
    build = builder.run(
        SPEC + "    file-format: COBERTURAXML\n", {"out/a.xml": f"<coverage>{classes}</coverage>"}
    )
    arn = report_of(builder, build)["arn"]

    def paths(**params):
        answer = builder.codebuild.describe_code_coverages(reportArn=arn, **params)
        return [file["filePath"] for file in answer["codeCoverages"]], answer.get("nextToken")

    assert paths() == (["a", "b", "c"], None)
    assert paths(sortBy="LINE_COVERAGE_PERCENTAGE") == (["b", "c", "a"], None)
    assert paths(minLineCoveragePercentage=50, maxLineCoveragePercentage=50) == (["c"], None)
    first, token = paths(maxResults=2)
    assert (first, paths(maxResults=2, nextToken=token)) == (["a", "b"], (["c"], None))
    with pytest.raises(ClientError, match="Report does not exist"):
        builder.codebuild.describe_code_coverages(reportArn=f"{arn}0")


def test_an_unknown_group_fails_the_build_before_it_runs(builder):
    arn = "arn:aws:codebuild:eu-central-1:123456789012:report-group/nobody"
    build = builder.run(SPEC.replace("  unit:", f"  {arn}:"))
    assert build["buildStatus"] == "FAILED"
    assert f"report group {arn} does not exist" in builder.log(build)


def test_discard_paths_names_files_alone(builder):
    build = builder.run(SPEC + "    discard-paths: yes\n", {"out/x/y/a.xml": junit(passed=1)})
    (case,) = cases_of(builder, report_of(builder, build)["arn"])
    assert case["testRawDataPath"] == "a.xml"


def test_reports_are_listed_by_group_and_status(builder):
    codebuild = builder.codebuild
    first = report_of(builder, builder.run(SPEC, {"out/a.xml": junit(passed=1)}))
    builder.upload({"buildspec.yml": SPEC, "out/a.xml": junit(failed=1)})
    second = report_of(builder, builder.wait(builder.start()))
    group = first["reportGroupArn"]
    assert second["reportGroupArn"] == group
    newest_first = [second["arn"], first["arn"]]
    assert codebuild.list_reports_for_report_group(reportGroupArn=group)["reports"] == newest_first
    failed = codebuild.list_reports_for_report_group(reportGroupArn=group, filter={"status": "FAILED"})
    assert failed["reports"] == [second["arn"]]
    assert codebuild.list_reports(maxResults=2)["reports"] == newest_first
    assert group in codebuild.list_report_groups()["reportGroups"]
    answer = codebuild.batch_get_report_groups(reportGroupArns=[group, f"{group}-no"])
    assert answer["reportGroups"][0]["name"] == f"{builder.name}-unit"
    assert answer["reportGroupsNotFound"] == [f"{group}-no"]
    assert codebuild.batch_get_reports(reportArns=["arn:x"])["reportsNotFound"] == ["arn:x"]
    with pytest.raises(ClientError, match="has reports"):
        codebuild.delete_report_group(arn=group)
    codebuild.delete_report_group(arn=group, deleteReports=True)
    with pytest.raises(codebuild.exceptions.ResourceNotFoundException):
        codebuild.list_reports_for_report_group(reportGroupArn=group)
    with pytest.raises(codebuild.exceptions.ResourceNotFoundException):
        codebuild.describe_test_cases(reportArn=first["arn"])
