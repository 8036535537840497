"""The ledger's chains: whole, in order, and closed to change."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from apps.ledger.models import Entry
from apps.ledger.services import GENESIS, Act, first_broken, record, record_all
from apps.ledger.verify import verify_chain
from tests.factories import make_user


@pytest.mark.django_db
class TestRecord:
    def test_a_chain_begins_and_goes_on(self):
        first = record(chain="web", action="release.registered", subject="release:1")
        second = record(chain="web", action="promotion.requested", subject="promotion:1", actor=make_user())
        other = record(chain="api", action="release.registered", subject="release:2")
        assert (first.sequence, first.previous_hash) == (1, GENESIS)
        assert (second.sequence, second.previous_hash) == (2, first.hash)
        assert (other.sequence, other.previous_hash) == (1, GENESIS)
        assert first_broken(chain="web") is None
        assert first_broken(chain="nobody") is None

    @pytest.mark.parametrize(
        "data",
        [
            {"at": datetime(2026, 1, 1, tzinfo=UTC), "size": Decimal("1.50")},
            {"big": 1e16, "whole": 2.0, "small": 1e-7, "deep": [{"b": [1.5, -0.0]}]},
            {"text": "NUL \0 and a lone surrogate \ud800, ü, \u2028"},
            {"z": 1, "a": {"y": None, "b": True}},
        ],
    )
    def test_what_the_database_gives_back_has_the_same_hash(self, data):
        record(chain="web", action="a.b", subject="c:1", data=data)
        assert first_broken(chain="web") is None

    def test_what_is_no_number_is_refused(self):
        with pytest.raises(ValueError, match="JSON"):
            record(chain="web", action="a.b", subject="c:1", data={"x": float("nan")})

    def test_a_rolled_back_act_leaves_nothing(self):
        with transaction.atomic():
            record(chain="web", action="a.b", subject="c:1")
            transaction.set_rollback(True)
        assert record(chain="web", action="a.b", subject="c:1").sequence == 1


@pytest.mark.django_db
class TestRecordAll:
    def test_several_acts_go_to_the_chain_of_each_in_their_order(self):
        record(chain="web", action="a.b", subject="c:0")
        acts = [Act(chain, "a.b", f"c:{number}") for number, chain in enumerate(("web", "api", "web"), 1)]
        entries = record_all(acts)
        assert [(each.chain, each.sequence, each.subject) for each in entries] == [
            ("web", 2, "c:1"),
            ("api", 1, "c:2"),
            ("web", 3, "c:3"),
        ]
        assert all(each.pk for each in entries)
        for chain, length in (("web", 3), ("api", 1)):
            found = verify_chain(chain=chain)
            assert (found.entries, found.broken) == (length, None)

    def test_several_cost_as_many_queries_as_one(self, django_assert_num_queries):
        for count in (1, 5):
            # 1: the chains' locks  2: their last entries  3: the new ones
            with django_assert_num_queries(3):
                record_all([Act(f"chain-{number}", "a.b", "c:1") for number in range(count)])

    def test_nothing_to_record_is_no_query(self, django_assert_num_queries):
        with django_assert_num_queries(0):
            assert record_all([]) == []


@pytest.mark.django_db
class TestTriggers:
    @pytest.fixture(autouse=True)
    def entry(self):
        # Off in the tests' database for the sake of those that empty it (tests/conftest.py).
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE ledger_entry ENABLE TRIGGER ledger_entry_no_truncate")
        return record(chain="web", action="a.b", subject="c:1")

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE ledger_entry SET action = 'x'",
            "DELETE FROM ledger_entry",
            "DELETE FROM ledger_entry WHERE false",
            "TRUNCATE ledger_entry",
        ],
    )
    def test_changes_are_refused(self, statement):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # TRUNCATE wants no pending checks
            with pytest.raises(IntegrityError, match="The ledger only grows"), transaction.atomic():
                cursor.execute(statement)
        assert Entry.objects.count() == 1

    def test_saving_again_is_refused(self, entry):
        entry.action = "x.y"
        with pytest.raises(DatabaseError, match="The ledger only grows"), transaction.atomic():
            entry.save()
