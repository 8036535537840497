"""The form of an entry that is hashed: every byte of it must come back from the database unchanged."""

import hashlib
import json
from datetime import UTC
from typing import Any

import orjson

from apps.ledger.models import Entry

# The hash before a chain's first entry.
GENESIS = "0" * 64


def hash_of(entry: Entry) -> str:
    """SHA-256, in hexadecimal, over the canonical JSON of an entry without its own hash."""
    content = {
        "chain": entry.chain,
        "sequence": entry.sequence,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": entry.actor_id,
        "action": entry.action,
        "subject": entry.subject,
        "data": plain(entry.data),
        "previous_hash": entry.previous_hash,
    }
    return digest_of(content)


def digest_of(value: Any) -> str:
    """SHA-256, in hexadecimal, over the canonical JSON of a value that ``plain`` leaves as it is."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def digest_without_fractions(value: Any) -> str:
    """What ``digest_of`` gives, in a fifth of the time, of a value that has no fractions in it.

    The two write the same JSON but for those: 1e-5 is 1e-05 with the one and 1e-5 with the other.
    """
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def plain(value: Any) -> Any:
    """``value`` in the one form that PostgreSQL's jsonb gives back unchanged, so that hashes can be checked.

    jsonb writes 1e16 as an integer and refuses NUL characters and lone surrogates.
    """
    # The commonest first: a decision has hundreds of values.
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
