"""The identity of tests, and the book that takes them in."""

import itertools
from collections import Counter

import pytest

from apps.builds.cases import CaseBook, case_id
from apps.builds.outcomes import ended, units
from apps.builds.parsers.case import Attempt, Case, Outcome, as_case
from apps.builds.parsers.errors import ReportRefused


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


def book(known: dict[int, int] | None = None) -> CaseBook:
    known = known or {}
    return CaseBook(service=1, group="g", identities=list(known), positions=list(known.values()))


def cases(*names: str, **fields) -> list[Case]:
    return [Case("s", "c", name, **fields) for name in names]


class TestBook:
    def test_positions_are_given_in_order_and_outcomes_stand_there(self):
        found = book()
        found.take([*cases("a", duration_ns=1_234_567), *cases("b", outcome=Outcome.SKIPPED)])
        assert [(each.name, each.position, each.new) for each in found.named()] == [
            ("a", 0, True),
            ("b", 1, True),
        ]
        assert found.positions == {identity(name="a"): 0, identity(name="b"): 1}
        assert ended(found.outcomes, 0) == (Outcome.PASSED, 1_230_000, False)
        assert ended(found.outcomes, 1) == (Outcome.SKIPPED, 0, False)
        assert (found.count, found.duration_ns) == (2, 1_234_567)
        assert found.counts() == Counter({Outcome.PASSED: 1, Outcome.SKIPPED: 1})

    def test_a_known_case_that_passed_is_five_bytes_and_nothing_else(self):
        found = book({identity(name="a"): 3, identity(name="b"): 1})
        found.take(cases("b", "a"))
        assert list(found.named()) == []
        assert [ended(found.outcomes, position) is not None for position in range(5)] == [
            False,
            True,
            False,
            True,
            False,
        ]

    def test_cases_are_found_in_whatever_order_they_come(self):
        names = "abcdefgh"
        known = {identity(name=name): position for position, name in enumerate(names)}
        for order in (names, names[::-1], "aceg", "hbadfce", "xaybzc"):
            found = book(known)
            found.take(Case("s", "c", name, duration_ns=ord(name) * 10_000) for name in order)
            assert {
                name: ended(found.outcomes, position).duration_ns // 10_000
                for name, position in zip(names, range(8), strict=True)
                if ended(found.outcomes, position)
            } == {name: ord(name) for name in order if name in names}

    def test_new_ones_come_after_the_known_ones(self):
        found = book({identity(name="a"): 3})
        found.take(cases("z", "a", "y"))
        assert [(each.name, each.position) for each in found.named()] == [("z", 4), ("y", 5)]

    def test_cases_of_the_same_name_have_ordinals(self):
        known = {identity(): 0, identity(ordinal=1): 1}
        found = book(known)
        found.take(cases("n", "n", "n"))
        assert found.positions == known | {identity(ordinal=2): 2}
        assert [(each.position, each.ordinal) for each in found.named()] == [(2, 2)]
        assert found.count == 3

    def test_the_same_test_in_the_next_file_is_counted_on(self):
        found = book()
        found.take(cases("n"))
        found.take(cases("n"))
        assert [each.ordinal for each in found.named()] == [0, 1]

    def test_what_did_not_pass_is_kept_with_its_message(self):
        found = book({identity(): 0})
        found.take(cases("n", outcome=Outcome.FAILED, duration_ns=5, message="no", details="x" * 5000))
        (named,) = found.named()
        assert (named.id, named.new, named.class_name) == (identity(), False, "c")
        (kept,) = found.kept()
        assert (kept.id, kept.outcome, kept.duration_ns) == (identity(), "FAILED", 5)
        assert kept.message == "no\n" + "x" * 1997

    def test_attempts_that_differ_are_marked(self):
        attempts = (Attempt(Outcome.FAILED), Attempt(Outcome.PASSED))
        found = book()
        found.take([*cases("a", attempts=attempts), *cases("b", attempts=attempts[1:])])
        assert ended(found.outcomes, 0) == (Outcome.PASSED, 0, True)
        assert ended(found.outcomes, 1) == (Outcome.PASSED, 0, False)

    def test_what_comes_before_an_error_has_been_taken_in(self):
        def broken():
            yield from cases("a", "b")
            raise ReportRefused("the end")

        found = book()
        with pytest.raises(ReportRefused):
            found.take(broken())
        assert found.count == 2
        assert len(list(found.named())) == 2

    def test_names_that_no_database_takes_are_kept_as_they_can_be(self):
        found = book()
        found.take(cases("a\0b", "\ud800", outcome=Outcome.ERROR, message="\udfff\0"))
        assert [each.name for each in found.named()] == ["a\ufffdb", "?"]
        assert {each.message for each in found.kept()} == {"?\ufffd"}

    def test_a_case_that_passed_may_come_as_a_plain_tuple(self):
        plain, whole = book({identity(): 0}), book({identity(): 0})
        passed = [("s", "c", "n", 70_000), ("s", "c", "n", 10), ("t", "c", "new", 0)]
        plain.take(passed)
        whole.take(map(as_case, passed))
        assert plain.outcomes == whole.outcomes
        assert list(plain.named()) == list(whole.named())
        assert (plain.count, plain.duration_ns) == (whole.count, whole.duration_ns) == (3, 70_010)

    def test_more_cases_than_a_report_may_have_are_refused(self, monkeypatch):
        monkeypatch.setattr("apps.builds.cases.CASE_LIMIT", 3)
        found = book()
        found.take(cases("a", "b"))
        found.take(cases("c"))
        with pytest.raises(ReportRefused, match="more than 3 test cases"):
            found.take(cases("d"))
        assert found.count == 3

    def test_what_was_put_on_disk_comes_in_order(self):
        many = [Case("s", "c", str(number), Outcome.FAILED, message=str(number)) for number in range(1001)]
        found = book()
        found.take(many)
        assert [each.name for each in found.named()] == [case.name for case in many]
        assert [each.message for each in found.kept()] == [case.message for case in many]

    def test_identities_are_those_of_case_id(self):
        texts = ("", "a", "ä\U0001f600", "x" * 4000, "\ud800")
        various = [Case(*three) for three in itertools.product(texts, repeat=3)]
        found = book()
        found.take(various)
        assert list(found.new) == [case_id(service=1, group="g", case=case, ordinal=0) for case in various]

    def test_two_tests_of_one_identity_are_refused(self):
        # As if the second "a" had the identity of "b".
        found = book({identity(name="b"): 0, identity(name="a", ordinal=1): 0})
        with pytest.raises(ReportRefused, match="another test has the identity of c a"):
            found.take(cases("b", "a", "a"))


def test_durations_too_long_for_their_bytes_say_so():
    found = book()
    found.take(cases("a", duration_ns=10**15))
    assert ended(found.outcomes).duration_ns == (2**32 - 1) * 10_000
    assert units(10**15) == 2**32 - 1
