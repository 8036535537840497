"""Append to the ledger."""

import json
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.utils import timezone

from apps.access.models import User
from apps.ledger.hashing import GENESIS, hash_of, plain
from apps.ledger.models import Entry
from apps.ledger.verify import Break, verify_chain


def record(
    *, chain: str, action: str, subject: str, actor: User | None = None, data: dict[str, Any] | None = None
) -> Entry:
    """Append an entry to a service's chain and return it.

    Call it last in the transaction of the write that it records: the chain's lock is held until commit,
    so whatever follows would keep other writers of this service waiting. ``actor`` is None when
    Lockkeeper itself acted. ``data`` may hold what DjangoJSONEncoder can write.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Advisory, since an empty chain has no row to lock. Freed at commit or rollback.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"ledger:{chain}"])
        last = Entry.objects.filter(chain=chain).order_by("-sequence").only("sequence", "hash").first()
        entry = Entry(
            chain=chain,
            sequence=last.sequence + 1 if last else 1,
            at=timezone.now(),
            actor=actor,
            action=action,
            subject=subject,
            data=plain(json.loads(json.dumps(data or {}, cls=DjangoJSONEncoder, allow_nan=False))),
            previous_hash=last.hash if last else GENESIS,
        )
        entry.hash = hash_of(entry)
        entry.save(force_insert=True)
    return entry


def first_broken(*, chain: str) -> Break | None:
    """Where a chain stops being whole, and how; None when it is whole."""
    return verify_chain(chain=chain).broken
