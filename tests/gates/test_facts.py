"""Facts are of the form that the ledger can have a digest of without looking through them."""

from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from apps.gates.facts import Facts


def kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    inner = get_type_hints(annotation).values() if is_dataclass(annotation) else get_args(annotation)
    for each in inner:
        yield from kinds(each)


def test_no_fact_is_a_fraction():
    # PostgreSQL would give 1e16 back as an integer, and the digest would be another one.
    found = set(kinds(Facts))
    assert int in found
    assert float not in found
    assert Any not in found
