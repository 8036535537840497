"""Walk a chain from its first entry and say where it stops being whole, and how."""

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from enum import StrEnum

from django.db import DataError

from apps.errors import NotFound
from apps.ledger.hashing import GENESIS, hash_of
from apps.ledger.models import Entry

# What PostgreSQL holds and Python cannot: the year 20000, a number of 5,000 digits, JSON nested 10,000 deep.
# `record` writes none of them, so somebody else did.
UNREADABLE = (DataError, ValueError, RecursionError)


class Kind(StrEnum):
    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    EXTRA = "extra"


@dataclass(frozen=True)
class Break:
    """The first place at which a chain is not as it was written. What comes after it proves nothing."""

    sequence: int
    kind: Kind
    detail: str


@dataclass(frozen=True)
class Verification:
    """What a walk along a chain has shown."""

    chain: str
    entries: int  # that are whole, from the first on
    head: str  # the hash of the last of them
    broken: Break | None


def verify_chain(*, chain: str) -> Verification:
    """Read the whole chain, a thousand entries at a time, and compare each hash with what it is a hash of.

    An entry removed from the end leaves no trace in the chain, nor does a chain removed as a whole; the heads
    in S3 show both (apps/catalog/heads.py).
    """
    entries, head = 0, GENESIS
    try:
        for entry in _in_order(chain):
            if broken := _break_at(entry, sequence=entries + 1, previous=head):
                return Verification(chain, entries, head, broken)
            entries, head = entries + 1, entry.hash
    except UNREADABLE as error:
        detail = f"It holds what Lockkeeper never writes and cannot read: {' '.join(str(error).split())}."
        return Verification(chain, entries, head, Break(entries + 1, Kind.CHANGED, detail))
    return Verification(chain, entries, head, None)


def find_chains(names: Iterable[str] = (), *, expected: Iterable[str] = ()) -> list[str]:
    """Those of these names that are chains, sorted, or all chains; raise NotFound where there is none.

    ``expected`` are chains that must be there, and are named even if no entry of them is left.
    """
    chains = set(Entry.objects.order_by("chain").values_list("chain", flat=True).distinct())
    if not chains:
        # Nothing to verify is not the same as whole: somebody may have emptied the table.
        raise NotFound("The ledger has no entries at all, so there is nothing to verify.")
    known = sorted(chains | set(expected))
    wanted = sorted(set(names))
    if unknown := [name for name in wanted if name not in known]:
        raise NotFound(f"The ledger has no entries of {', '.join(unknown)}. Known: {', '.join(known)}.")
    return wanted or known


def _in_order(chain: str) -> Iterator[Entry]:
    """The entries by sequence; raises one of UNREADABLE in place of the first that cannot be read."""
    entries = Entry.objects.filter(chain=chain).order_by("sequence", "pk")
    read = 0
    try:
        for entry in entries.iterator(chunk_size=1000):
            yield entry
            read += 1
    except UNREADABLE:
        # It spoilt its whole batch. One by one, those before it are still seen.
        for pk in entries.values_list("pk", flat=True)[read:]:
            yield Entry.objects.get(pk=pk)


def _break_at(entry: Entry, *, sequence: int, previous: str) -> Break | None:
    """What is wrong with ``entry`` as the one after the hash ``previous``; None when it is right there."""
    if entry.sequence == sequence and entry.previous_hash == previous and entry.hash == hash_of(entry):
        return None
    before = f"entry {sequence - 1}" if sequence > 1 else "the beginning"
    if entry.sequence < sequence:
        return Break(entry.sequence, Kind.EXTRA, f"There is one entry {entry.sequence} too many.")
    others = Entry.objects.filter(chain=entry.chain, previous_hash=previous).exclude(pk=entry.pk)
    for other in others.order_by("sequence"):
        if _was_written_at(other, sequence, previous):
            return Break(sequence, Kind.REORDERED, f"Entry {sequence} stands at {other.sequence}.")
    if _was_written_at(entry, sequence, previous):
        if entry.sequence != sequence:
            return Break(sequence, Kind.REORDERED, f"Entry {sequence} stands at {entry.sequence}.")
        return Break(sequence, Kind.CHANGED, f"It no longer names the hash of {before}.")
    if entry.sequence > sequence:
        last = entry.sequence - 1
        what = f"Entry {sequence} is" if last == sequence else f"Entries {sequence} to {last} are"
        return Break(sequence, Kind.MISSING, f"{what} not there; the next is {entry.sequence}.")
    if entry.previous_hash == previous:
        return Break(sequence, Kind.CHANGED, "Its hash is not that of its content.")
    if entry.hash == hash_of(entry):
        detail = f"It does not follow {before}: one of the two was rewritten together with its hash."
        return Break(sequence, Kind.CHANGED, detail)
    return Break(sequence, Kind.MISSING, f"Nothing follows {before}; what stands here was written elsewhere.")


def _was_written_at(entry: Entry, sequence: int, previous: str) -> bool:
    """Whether the entry's own hash says that this was its place."""
    original = copy(entry)
    original.sequence, original.previous_hash = sequence, previous
    return entry.hash == hash_of(original)
