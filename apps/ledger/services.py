"""Append to the ledger."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.utils import timezone

from apps.access.models import User
from apps.ledger.hashing import GENESIS, hash_of, plain
from apps.ledger.models import Entry
from apps.ledger.verify import Break, verify_chain


@dataclass(frozen=True)
class Act:
    """What is to be recorded, as ``record`` takes it."""

    chain: str
    action: str
    subject: str
    actor: User | None = None
    data: dict[str, Any] | None = None


def record(
    *, chain: str, action: str, subject: str, actor: User | None = None, data: dict[str, Any] | None = None
) -> Entry:
    """Append an entry to a service's chain and return it.

    Call it last in the transaction of the write that it records: the chain's lock is held until commit,
    so whatever follows would keep other writers of this service waiting. ``actor`` is None when
    Lockkeeper itself acted. ``data`` may hold what DjangoJSONEncoder can write.
    """
    (entry,) = record_all([Act(chain=chain, action=action, subject=subject, actor=actor, data=data)])
    return entry


def record_all(acts: Sequence[Act]) -> list[Entry]:
    """Append an entry for each act, in their order, to one chain or several; see ``record``.

    Call it once in a transaction: the chains are locked in one order, so that no two writers wait for each
    other, and a second call would begin that order anew.
    """
    if not acts:
        return []
    chains = sorted({act.chain for act in acts})
    with transaction.atomic(savepoint=False):  # without its entries nothing may stand
        heads = _lock_chains(chains)
        entries = []
        for act in acts:
            sequence, last = heads.get(act.chain, (0, GENESIS))
            entry = Entry(
                chain=act.chain,
                sequence=sequence + 1,
                at=timezone.now(),
                actor=act.actor,
                action=act.action,
                subject=act.subject,
                data=plain(json.loads(json.dumps(act.data or {}, cls=DjangoJSONEncoder, allow_nan=False))),
                previous_hash=last,
            )
            entry.hash = hash_of(entry)
            heads[act.chain] = (entry.sequence, entry.hash)
            entries.append(entry)
        return Entry.objects.bulk_create(entries)


def _lock_chains(chains: list[str]) -> dict[str, tuple[int, str]]:
    """Lock chains until the transaction ends; number and hash of the last entry of each that has one."""
    with connection.cursor() as cursor:
        # Advisory, since an empty chain has no row to lock. One after the other, in the order of the array.
        lock = "SELECT pg_advisory_xact_lock(hashtextextended('ledger:' || chain, 0)) FROM unnest(%s) chain"
        cursor.execute(lock, [chains])
        # A statement of its own: the one above began before it had the locks, and sees no newer entries.
        cursor.execute(
            "SELECT wanted.chain, last.sequence, last.hash FROM unnest(%s) wanted (chain), LATERAL (SELECT "
            "* FROM ledger_entry WHERE chain = wanted.chain ORDER BY sequence DESC LIMIT 1) AS last",
            [chains],
        )
        return {chain: (sequence, last) for chain, sequence, last in cursor.fetchall()}


def first_broken(*, chain: str) -> Break | None:
    """Where a chain stops being whole, and how; None when it is whole."""
    return verify_chain(chain=chain).broken
