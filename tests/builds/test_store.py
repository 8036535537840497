"""Reports in the database: positions, outcomes, and several writers at once."""

import random
from functools import partial
from itertools import count

import pytest
from django.db import connection, transaction

from apps.builds.cases import CaseBook
from apps.builds.evidence import ReportEvidence
from apps.builds.models import (
    Build,
    CaseIdentities,
    Report,
    ReportGroup,
    ReportOutcomes,
    TestCase,
    TestResult,
)
from apps.builds.outcomes import SIZE, ended
from apps.builds.parsers.case import Case, Outcome
from apps.builds.store import open_book, write_reports
from tests.builds.fake import report_info
from tests.factories import make_build, make_service
from tests.races import all_at_once

pytestmark = pytest.mark.django_db
ARNS = count(1)


@pytest.fixture
def service():
    return make_service("web")


def case(name: str, outcome: Outcome = Outcome.PASSED, **fields) -> Case:
    return Case("s", "c", name, outcome, **fields)


def read(build: Build, *cases: Case, group: str = "unit") -> ReportEvidence:
    """What was read of a report, before any of it is written."""
    book = open_book(service=build.service_id, group=group)
    book.take(cases)
    arn = f"arn:aws:codebuild:eu-central-1:123456789012:report/{group}:{next(ARNS)}"
    return ReportEvidence(report_info(group, total=len(cases), arn=arn), returned=len(cases), cases=book)


def write(build: Build, *reports: ReportEvidence) -> list[Report]:
    with transaction.atomic():
        write_reports(build=build, reports=reports)
    return list(build.reports.order_by("pk"))


def outcomes(report: Report) -> dict[str, str]:
    """How each case of a report ended, by name, from its bytes alone."""
    data = ReportOutcomes.objects.get(report=report).data
    found = {}
    for row in TestCase.objects.filter(report_group=report.group):
        if told := ended(data, row.position):
            found[row.name] = told.outcome.value
    return found


def test_every_case_has_its_outcome_and_only_what_did_not_pass_a_row(service):
    build = make_build(service)
    (report,) = write(build, read(build, case("a"), case("b", Outcome.FAILED, message="no"), case("c")))
    assert outcomes(report) == {"a": "SUCCEEDED", "b": "FAILED", "c": "SUCCEEDED"}
    assert list(report.results.values_list("case__name", "status", "message")) == [("b", "FAILED", "no")]
    assert (report.parsed, report.passed, report.failed) == (3, 2, 1)
    assert ReportGroup.objects.get().size == 3
    assert len(ReportOutcomes.objects.get().data) == 3 * SIZE


def test_positions_stay_whatever_comes_and_goes(service):
    first = make_build(service)
    (one,) = write(first, read(first, case("a"), case("b")))
    second = make_build(service)
    (two,) = write(second, read(second, case("c"), case("b", Outcome.SKIPPED)))
    third = make_build(service)
    (three,) = write(third, read(third, case("d"), case("a")))
    positions = dict(TestCase.objects.values_list("name", "position"))
    assert positions == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert outcomes(one) == {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    assert outcomes(two) == {"b": "SKIPPED", "c": "SUCCEEDED"}
    assert outcomes(three) == {"a": "SUCCEEDED", "d": "SUCCEEDED"}


def test_groups_and_services_have_positions_of_their_own(service):
    build, other = make_build(service), make_build()
    write(build, read(build, case("a")), read(build, case("a"), group="e2e"))
    write(other, read(other, case("a")))
    assert list(TestCase.objects.values_list("position", flat=True)) == [0, 0, 0]
    assert ReportGroup.objects.count() == 3


def test_what_another_report_brought_meanwhile_moves_the_new_ones(service):
    first, second = make_build(service), make_build(service)
    slow = read(second, case("x"), case("b", Outcome.ERROR), case("y"))
    write(first, read(first, case("a"), case("b")))
    (report,) = write(second, slow)
    assert dict(TestCase.objects.values_list("name", "position")) == {"a": 0, "b": 1, "x": 2, "y": 3}
    assert outcomes(report) == {"x": "SUCCEEDED", "b": "ERROR", "y": "SUCCEEDED"}


def test_two_reports_of_one_group_in_one_build(service):
    build = make_build(service)
    one, two = write(build, read(build, case("a"), case("b")), read(build, case("b"), case("c")))
    assert (one.name, two.name) == ("unit", "unit (2)")
    assert outcomes(two) == {"b": "SUCCEEDED", "c": "SUCCEEDED"}


def test_cases_of_a_release_before_positions_get_theirs(service):
    build = make_build(service)
    evidence = read(build, case("a"), case("b"))
    for each in evidence.cases.named():
        if each.name == "b":
            fields = {"suite": each.suite, "class_name": each.class_name, "name": each.name}
            TestCase.objects.create(pk=each.id, service=service, group="unit", **fields)
    (report,) = write(build, evidence)
    assert dict(TestCase.objects.values_list("name", "position")) == {"a": 0, "b": 1}
    assert outcomes(report) == {"a": "SUCCEEDED", "b": "SUCCEEDED"}


def test_a_new_case_with_the_identity_of_another_groups_test_is_refused(service):
    build = make_build(service)
    evidence = read(build, case("a"), case("b"))
    taken = next(each.id for each in evidence.cases.named() if each.name == "b")
    TestCase.objects.create(pk=taken, service=service, group="e2e", class_name="c", name="other")
    (report,) = write(build, evidence)
    assert "the test c b has the same identity as c::other" in report.problem
    assert not TestCase.objects.filter(name="a").exists()


def test_what_is_written_by_the_thousand_is_not_checked_row_by_row():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'f' AND conrelid IN"
            " ('builds_testcase'::regclass, 'builds_testresult'::regclass, 'builds_casestate'::regclass)"
        )
        assert cursor.fetchall() == []


def test_text_survives_copy(service):
    build = make_build(service)
    text = "tab\t backslash \\ n\\n \n line\r\nend \\. \\N ä\U0001f600"
    write(build, read(build, Case(text, "", f"{text}!", Outcome.FAILED, message=text), case("\\N")))
    row = TestCase.objects.get(name=f"{text}!")
    assert (row.suite, row.class_name) == (text, "")
    assert TestResult.objects.get().message == text
    assert TestCase.objects.filter(name="\\N").exists()


def test_the_bytes_are_stored_so_that_a_slice_can_be_read():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attstorage FROM pg_attribute WHERE attrelid = 'builds_reportoutcomes'::regclass"
            " AND attname = 'data'"
        )
        assert cursor.fetchone()[0] in (b"e", "e")


def test_a_book_opens_in_one_query_however_many_cases_it_knows(service, django_assert_num_queries):
    build = make_build(service)
    write(build, read(build, *(case(f"t{number}") for number in range(300))))
    with django_assert_num_queries(1):
        book = open_book(service=service.pk, group="unit")
    assert sorted(book.positions.values()) == list(range(300))
    assert book.known == 300


def known(book: CaseBook) -> dict[int, int]:
    return dict(TestCase.objects.filter(report_group__name=book.group).values_list("id", "position"))


def test_the_identities_of_a_group_are_kept_in_the_order_of_its_cases(service, django_assert_num_queries):
    write(make_build(service), read(make_build(service), case("a"), case("b")))
    write(make_build(service), read(make_build(service), case("b"), case("a")))
    write(make_build(service), read(make_build(service), case("c"), case("a"), case("d")))
    assert list(CaseIdentities.objects.values_list("position", flat=True)) == [0, 2]
    with django_assert_num_queries(1):
        book = open_book(service=service.pk, group="unit")
    assert book.positions == known(book)
    assert len(book.positions) == book.known == 4


def test_what_a_release_before_identities_wrote_is_known_and_made_up_for(service):
    write(make_build(service), read(make_build(service), case("a")))
    write(make_build(service), read(make_build(service), case("b")))
    # That release went on with cases alone, or wrote them all.
    for left in (1, 0):
        for each in CaseIdentities.objects.order_by("position")[left:]:
            each.delete()
        book = open_book(service=service.pk, group="unit")
        assert book.positions == known(book)
        write(make_build(service), read(make_build(service), case(f"new{left}"), case("b")))
        assert ReportGroup.objects.get().size * 8 == sum(
            len(each.identities) for each in CaseIdentities.objects.all()
        )
        book = open_book(service=service.pk, group="unit")
        assert book.positions == known(book)


def test_where_a_cases_row_is_gone_positions_are_told_by_rows(service):
    write(make_build(service), read(make_build(service), case("a"), case("b"), case("c")))
    CaseIdentities.objects.all().delete()
    TestCase.objects.get(name="b").delete()
    for name in ("d", "e"):
        write(make_build(service), read(make_build(service), case("c"), case(name)))
        book = open_book(service=service.pk, group="unit")
        assert book.positions == known(book)
    assert not CaseIdentities.objects.exists()
    assert dict(TestCase.objects.values_list("name", "position")) == {"a": 0, "c": 2, "d": 3, "e": 4}


def test_known_cases_take_no_query_each(service, django_assert_num_queries):
    names = [f"t{number}" for number in range(300)]
    build = make_build(service)
    write(build, read(build, *map(case, names)))
    build = make_build(service)
    evidence = read(build, *(case(name, Outcome.FAILED) for name in names))
    # 1: savepoint  2: the group, were it new  3: its lock  4: names of the 300  5: report  6: its bytes
    # 7: COPY of what did not pass  8-10: what is flaky or broken  11: end of the savepoint
    # 12: names that callers took  13: the reports, by write
    with django_assert_num_queries(13):
        write(build, evidence)
    assert TestResult.objects.count() == 300


@pytest.mark.integration
@pytest.mark.django_db(transaction=True)
def test_ten_writers_of_the_same_groups_lose_nothing_and_never_deadlock():
    """Each brings cases that the others bring too, in another order, of two groups in either order."""
    service = make_service("web")
    names = [f"t{number}" for number in range(400)]
    builds = [make_build(service) for _ in range(10)]

    def work(number: int, build: Build) -> None:
        chance = random.Random(number)
        groups = ["unit", "e2e"] if number % 2 else ["e2e", "unit"]
        for _ in range(2):  # the second time nothing is new
            mine = chance.sample(names, 300)
            build = build if not build.reports.exists() else make_build(service)
            ended = {name: Outcome.FAILED if name.endswith("7") else Outcome.PASSED for name in mine}
            reports = [read(build, *map(case, ended, ended.values()), group=group) for group in groups]
            for report in write(build, *reports):
                assert outcomes(report) == {
                    name: "FAILED" if name.endswith("7") else "SUCCEEDED" for name in mine
                }

    all_at_once(*(partial(work, *each) for each in enumerate(builds)))
    assert Report.objects.count() == ReportOutcomes.objects.count() == 40
    for group in ReportGroup.objects.all():
        positions = sorted(group.cases.values_list("position", flat=True))
        assert positions == list(range(group.size))
        assert group.size == 400
        book = open_book(service=service.pk, group=group.name)
        assert book.positions == dict(group.cases.values_list("id", "position"))
        assert group.identities.exists()


def test_a_book_without_a_group_is_empty(service):
    book = open_book(service=service.pk, group="nothing")
    assert isinstance(book, CaseBook)
    assert (book.positions, book.known) == ({}, 0)
