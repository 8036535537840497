"""Write the evidence of a build: reports, raw files, tests and what did not pass."""

from collections.abc import Iterator, Sequence

from apps.builds.evidence import Identified, ReportEvidence
from apps.builds.models import Build, Report, ReportFile, TestCase, TestResult
from apps.builds.parsers.case import Outcome

BATCH = 5000  # rows in one statement


def write_reports(*, build: Build, reports: Sequence[ReportEvidence]) -> None:
    """Write all reports of a build; call it inside the transaction that marks the build as collected."""
    names: set[str] = set()
    for evidence in reports:
        # A group can hold two reports of one build, where the buildspec names it by ARN twice.
        name, twin = evidence.info.group, 1
        while name in names:
            twin += 1
            name = f"{evidence.info.group} ({twin})"
        names.add(name)
        if problem := _write_cases(build.service_id, evidence.info.group, evidence.cases):
            evidence.fail(problem)
        _write_report(build, name, evidence)


def _write_report(build: Build, name: str, evidence: ReportEvidence) -> None:
    info, outcomes = evidence.info, evidence.outcomes
    report = Report.objects.create(
        build=build,
        name=name,
        arn=info.arn,
        type=info.type,
        status=info.status,
        truncated=info.truncated,
        declared=info.total,
        returned=evidence.returned,
        parsed=evidence.parsed,
        passed=outcomes[Outcome.PASSED],
        failed=outcomes[Outcome.FAILED],
        errors=outcomes[Outcome.ERROR],
        skipped=outcomes[Outcome.SKIPPED],
        unknown=outcomes[Outcome.UNKNOWN],
        duration_ns=evidence.duration_ns,
        problem=evidence.problem,
    )
    ReportFile.objects.bulk_create(
        [
            ReportFile(
                report=report,
                bucket=file.bucket,
                key=file.key,
                version=file.version,
                size=file.size,
                sha256=file.sha256,
            )
            for file in evidence.files
        ],
        batch_size=BATCH,
    )
    TestResult.objects.bulk_create(
        [
            TestResult(
                report=report,
                case_id=each.id,
                status=each.case.outcome.value,
                duration_ns=each.case.duration_ns,
                message=each.case.text[: TestResult.MESSAGE_LIMIT],
            )
            for each in evidence.cases
            if each.case.outcome is not Outcome.PASSED
        ],
        batch_size=BATCH,
    )


def _write_cases(service: int, group: str, cases: list[Identified]) -> str:
    """Make sure that every case has its row; the problem, if a row turns out to be another test's."""
    known = set(TestCase.objects.filter(service=service, group=group).values_list("pk", flat=True))
    # In one order everywhere, so that two builds that bring the same new tests do not wait for each other.
    new = sorted((each for each in cases if each.id not in known), key=lambda each: each.id)
    TestCase.objects.bulk_create(
        (
            TestCase(
                pk=each.id,
                service_id=service,
                group=group,
                suite=each.case.suite,
                class_name=each.case.class_name,
                name=each.case.name,
                ordinal=each.ordinal,
            )
            for each in new
        ),
        ignore_conflicts=True,  # another build of the service brought the same ones meanwhile
        batch_size=BATCH,
    )
    # The new ones, and those whose result is kept: a 64-bit identity could already be another test's.
    to_check = {each.id: each for each in cases if each.case.outcome is not Outcome.PASSED}
    to_check |= {each.id: each for each in new}
    for ids in _batches(list(to_check)):
        for row in TestCase.objects.filter(pk__in=ids):
            each = to_check[row.pk]
            told = (service, group, each.case.suite, each.case.class_name, each.case.name, each.ordinal)
            if (row.service_id, row.group, row.suite, row.class_name, row.name, row.ordinal) != told:
                return f"the test {each.case.class_name} {each.case.name} has the same identity as {row}"
    return ""


def _batches(ids: list[int]) -> Iterator[list[int]]:
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))
