"""The identity of tests."""

from apps.builds.cases import case_id
from apps.builds.parsers.case import Case


def identity(suite="s", class_name="c", name="n", *, service=1, group="g", ordinal=0):
    return case_id(service=service, group=group, case=Case(suite, class_name, name), ordinal=ordinal)


def test_it_is_the_same_for_the_same_test_whatever_its_outcome():
    slow = Case("s", "c", "n", duration_ns=5, message="no")
    assert identity() == case_id(service=1, group="g", case=slow, ordinal=0)


def test_it_is_stored_so_it_must_never_change():
    assert identity() == -3335386048784157029


def test_every_part_counts_and_none_runs_into_the_next():
    different = {
        identity(),
        identity(suite="S"),
        identity(class_name="C"),
        identity(name="N"),
        identity(service=2),
        identity(group="G"),
        identity(ordinal=1),
        identity(suite="sc", class_name=""),
        identity(suite="", class_name="sc"),
        identity(class_name="cn", name=""),
    }
    assert len(different) == 10


def test_it_fits_postgresql_and_uses_negative_numbers_too():
    many = [identity(name=str(number)) for number in range(1000)]
    assert all(-(2**63) <= each < 2**63 for each in many)
    assert 400 < sum(each < 0 for each in many) < 600
