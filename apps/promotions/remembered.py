"""What a process keeps of what it has read and what never changes, so that a gate asks for it once.

A policy changes, or a window opens, and the same releases are judged again: their builds' tests are what they
were.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Values that were found by their keys; beyond ``limit`` of them it begins anew."""

    _all: list["Remembered"] = []  # every one there is

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[Key, Value] = {}
        self._all.append(self)

    def look_up(
        self, keys: Iterable[Key], find: Callable[[list[Key]], Mapping[Key, Value]]
    ) -> dict[Key, Value]:
        """The value of each key; ``find`` is asked for those that are not kept, if there are any."""
        wanted = dict.fromkeys(keys)
        kept = self._kept
        known = {key: kept[key] for key in wanted if key in kept}
        missing = [key for key in wanted if key not in known]
        if not missing:
            return known
        found = find(missing)
        if len(kept) + len(found) > self._limit:
            # A new dictionary, since another thread may be reading this one.
            kept = self._kept = {}
        kept.update(found)
        return {**known, **found}

    def forget(self) -> None:
        """Begin anew."""
        self._kept = {}


def forget() -> None:
    """Begin anew in all of it, as a process does."""
    for each in Remembered._all:
        each.forget()
