"""Append to the ledger, and check that a chain is whole."""

import hashlib
import json
from datetime import UTC
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.utils import timezone

from apps.access.models import User
from apps.ledger.models import Entry

# The hash before a chain's first entry.
GENESIS = "0" * 64


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
            data=_plain(json.loads(json.dumps(data or {}, cls=DjangoJSONEncoder, allow_nan=False))),
            previous_hash=last.hash if last else GENESIS,
        )
        entry.hash = hash_of(entry)
        entry.save(force_insert=True)
    return entry


def hash_of(entry: Entry) -> str:
    """SHA-256, in hexadecimal, over the canonical JSON of an entry without its own hash."""
    content = {
        "chain": entry.chain,
        "sequence": entry.sequence,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": entry.actor_id,
        "action": entry.action,
        "subject": entry.subject,
        "data": _plain(entry.data),
        "previous_hash": entry.previous_hash,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def first_broken(*, chain: str) -> int | None:
    """The sequence at which a chain stops being whole: changed, missing or out of order; None when it is."""
    previous = GENESIS
    expected = 1
    for entry in Entry.objects.filter(chain=chain).order_by("sequence").iterator(chunk_size=1000):
        whole = entry.sequence == expected and entry.previous_hash == previous
        if not whole or entry.hash != hash_of(entry):
            return expected
        previous = entry.hash
        expected += 1
    return None


def _plain(value: Any) -> Any:
    """``value`` in the one form that PostgreSQL's jsonb gives back unchanged, so that hashes can be checked.

    jsonb writes 1e16 as an integer and refuses NUL characters and lone surrogates.
    """
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return value
