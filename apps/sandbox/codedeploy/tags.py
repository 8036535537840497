"""Tag filters, by which deployment groups find their hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def matches(one: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    """Whether tags satisfy one tag filter."""
    kind = one.get("Type", "KEY_AND_VALUE")
    if kind == "KEY_ONLY":
        return one.get("Key") in tags
    if kind == "VALUE_ONLY":
        return one.get("Value") in tags.values()
    return one.get("Key", "") in tags and tags[one.get("Key", "")] == one.get("Value", "")


def any_matches(filters: Iterable[Mapping[str, str]], tags: Mapping[str, str]) -> bool:
    """Whether tags satisfy one filter of a list."""
    return any(matches(one, tags) for one in filters)


def all_match(sets: Iterable[Iterable[Mapping[str, str]]], tags: Mapping[str, str]) -> bool:
    """Whether tags satisfy one filter of each list of a tag set."""
    return all(any_matches(filters, tags) for filters in sets)
