"""What makes two results the same test: its identity within a service."""

import hashlib
import struct

from apps.builds.parsers.case import Case


def case_id(*, service: int, group: str, case: Case, ordinal: int) -> int:
    """A signed 64-bit BLAKE2b of what identifies a test, which fits PostgreSQL's bigint.

    Each part is preceded by its length, so that no two different tests look the same ("ab" + "c" and
    "a" + "bc"). ``ordinal`` counts cases of one report with the same suite, class and name, from 0.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (str(service), group, case.suite, case.class_name, case.name, str(ordinal)):
        data = part.encode()
        digest.update(struct.pack(">I", len(data)))
        digest.update(data)
    return int.from_bytes(digest.digest(), "big", signed=True)
