"""Test cases by name, for those alone that are shown."""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from django.db.models import Q

from apps.builds.models import TestCase


class CaseName(NamedTuple):
    """What names a test within its service."""

    id: int
    group: str
    suite: str
    class_name: str
    name: str
    ordinal: int

    def __str__(self) -> str:
        return f"{self.class_name}::{self.name}" if self.class_name else self.name

    def to_json(self) -> dict[str, Any]:
        """As the API gives it."""
        return {
            # Larger than the integers that every reader of JSON is safe with.
            "case": str(self.id),
            "group": self.group,
            "suite": self.suite,
            "class_name": self.class_name,
            "name": self.name,
            "ordinal": self.ordinal,
        }


def named_cases(places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], CaseName]:
    """The names of the cases at these places, which are a report group's id and a position. One query."""
    by_group: dict[int, set[int]] = {}
    for group, position in places:
        by_group.setdefault(group, set()).add(position)
    if not by_group:
        return {}
    match = reduce(or_, (Q(report_group=group, position__in=each) for group, each in by_group.items()))
    rows = TestCase.objects.filter(match).values_list("report_group", "position", *CaseName._fields)
    return {(row[0], row[1]): CaseName(*row[2:]) for row in rows}
