"""What verify_chain finds in rows that were really tampered with, and what it cannot."""

import pytest

from apps.ledger.hashing import GENESIS, hash_of
from apps.ledger.models import Entry
from apps.ledger.services import record
from apps.ledger.verify import Kind, verify_chain
from tests.factories import make_user
from tests.ledger.tampering import copy, delete, make_chain, swap, tamper, update

OTHER_HASH = "'" + "ab" * 32 + "'"


@pytest.mark.django_db
class TestWhole:
    def test_a_chain_as_it_was_written(self):
        entries = make_chain()
        found = verify_chain(chain="web")
        assert (found.entries, found.head, found.broken) == (5, entries[-1].hash, None)

    def test_a_chain_that_nobody_wrote_to(self):
        found = verify_chain(chain="web")
        assert (found.entries, found.head, found.broken) == (0, GENESIS, None)

    def test_chains_between_each_other(self):
        for _ in range(3):
            record(chain="web", action="a.b", subject="c:1")
            record(chain="api", action="a.b", subject="c:1")
        assert [verify_chain(chain=chain).broken for chain in ("web", "api")] == [None, None]

    def test_a_chain_is_read_once_however_long(self, django_assert_num_queries):
        make_chain(length=12)
        # 1: the entries, through one server-side cursor
        with django_assert_num_queries(1):
            assert verify_chain(chain="web").entries == 12


@pytest.mark.django_db
class TestBroken:
    @pytest.mark.parametrize(
        "change",
        [
            "data = '{\"number\": 4}'",
            "data = data || '{\"more\": null}'",
            "action = 'x.y'",
            "subject = 'c:4'",
            "at = at + interval '1 microsecond'",
            f"hash = {OTHER_HASH}",
            f"previous_hash = {OTHER_HASH}",
            "hash = upper(hash)",
        ],
    )
    def test_a_changed_entry(self, change):
        make_chain()
        tamper(update(change))
        self.expect(3, Kind.CHANGED)

    def test_another_actor(self):
        make_chain()
        tamper(update(f"actor_id = {make_user().pk}"))
        self.expect(3, Kind.CHANGED)

    @pytest.mark.parametrize("sequence", [1, 5])
    def test_a_changed_entry_at_either_end(self, sequence):
        make_chain()
        tamper(update("action = 'x.y'", sequence))
        self.expect(sequence, Kind.CHANGED)

    def test_an_entry_rewritten_with_its_hash_shows_in_the_next(self):
        make_chain()
        entry = Entry.objects.get(sequence=3)
        entry.action = "x.y"
        tamper(update(f"action = 'x.y', hash = '{hash_of(entry)}'"))
        broken = self.expect(4, Kind.CHANGED)
        assert "does not follow entry 3" in broken.detail

    @pytest.mark.parametrize(
        ("removed", "detail"),
        [
            ((3,), "Entry 3 is not there; the next is 4."),
            ((2, 3), "Entries 2 to 3 are not there; the next is 4."),
            ((1,), "Entry 1 is not there; the next is 2."),
        ],
    )
    def test_a_removed_entry(self, removed, detail):
        make_chain()
        tamper(delete(*removed))
        assert self.expect(removed[0], Kind.MISSING).detail == detail

    @pytest.mark.parametrize("sequence", [1, 3])
    def test_a_removed_entry_with_the_gap_closed(self, sequence):
        make_chain()
        later = range(sequence + 1, 6)
        tamper(delete(sequence), *[update("sequence = sequence - 1", number) for number in later])
        self.expect(sequence, Kind.MISSING)

    def test_an_entry_moved_to_another_chain(self):
        make_chain()
        make_chain("api", 2)
        tamper(update("chain = 'api'"))
        self.expect(3, Kind.MISSING)
        # There it is a third entry that does not follow the second.
        assert verify_chain(chain="api").broken.sequence == 3

    @pytest.mark.parametrize(("one", "other"), [(2, 3), (1, 2), (2, 5), (4, 5)])
    def test_entries_that_changed_places(self, one, other):
        make_chain()
        tamper(*swap(one, other))
        assert self.expect(one, Kind.REORDERED).detail == f"Entry {one} stands at {other}."

    def test_an_entry_put_at_the_end(self):
        make_chain()
        tamper(update("sequence = 99"))
        assert self.expect(3, Kind.REORDERED).detail == "Entry 3 stands at 99."

    def test_the_last_entry_put_further_away(self):
        make_chain()
        tamper(update("sequence = 99", 5))
        assert self.expect(5, Kind.REORDERED).detail == "Entry 5 stands at 99."

    def test_an_entry_before_the_first(self):
        make_chain()
        tamper(copy(of=1, to=0))
        self.expect(0, Kind.EXTRA)

    def test_a_copy_of_an_entry_where_the_constraint_was_dropped(self):
        make_chain()
        drop = "ALTER TABLE ledger_entry DROP CONSTRAINT ledger_sequence_once_per_chain"
        tamper(drop, copy(of=3, to=3))
        self.expect(3, Kind.EXTRA)

    def test_an_entry_added_by_hand(self):
        make_chain()
        tamper(copy(of=3, to=6))
        self.expect(6, Kind.MISSING)

    @pytest.mark.parametrize(
        "change",
        [
            "at = 'infinity'",
            "at = '20000-01-01'",
            "at = '0044-03-15 BC'",
            "data = ('{\"a\": 1' || repeat('0', 5000) || '}')::jsonb",
            "data = (repeat('[', 4000) || repeat(']', 4000))::jsonb",
        ],
    )
    def test_what_python_cannot_read(self, change):
        make_chain()
        tamper(update(change))
        self.expect(3, Kind.CHANGED)

    def test_the_first_of_several_is_told(self):
        make_chain()
        tamper(update("action = 'x.y'", 2), update("at = 'infinity'", 4), delete(5))
        self.expect(2, Kind.CHANGED)

    def expect(self, sequence, kind):
        found = verify_chain(chain="web")
        assert found.broken is not None
        assert (found.broken.sequence, found.broken.kind) == (sequence, kind), found.broken.detail
        return found.broken


@pytest.mark.django_db
class TestNotFound:
    """Holes that only heads kept elsewhere can close: tests/catalog/test_heads.py."""

    def test_an_entry_removed_from_the_end(self):
        entries = make_chain()
        tamper(delete(5))
        found = verify_chain(chain="web")
        # What somebody has to compare with what was printed before.
        assert (found.broken, found.entries, found.head) == (None, 4, entries[3].hash)

    def test_an_end_rewritten_with_new_hashes(self):
        make_chain()
        head = verify_chain(chain="web").head
        previous = Entry.objects.get(sequence=3).hash
        for entry in Entry.objects.filter(sequence__gt=3).order_by("sequence"):
            entry.action, entry.previous_hash = "x.y", previous
            previous = hash_of(entry)
            tamper(
                update(
                    f"action = 'x.y', previous_hash = '{entry.previous_hash}', hash = '{previous}'",
                    entry.sequence,
                )
            )
        found = verify_chain(chain="web")
        assert (found.broken, found.entries) == (None, 5)
        assert found.head != head
