"""Which tests of a build went another way than those of an earlier one.

It works on the bytes that apps.builds.outcomes describes: both builds' outcomes of a report group are put
together byte by byte, and what is counted is counted there. Names are read of those cases alone that are
shown, so that 100,000 cases take some milliseconds.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import islice
from typing import Any

from django.db.models import TextChoices

from apps.builds.models import Build, Report
from apps.builds.naming import CaseName, named_cases
from apps.builds.outcomes import SIZE, UNIT_NS, Ended, codes, durations, ended, together
from apps.errors import Invalid

PAGE = 50  # cases of a kind that are named unless told otherwise
PAGE_LIMIT = 200


class Kind(TextChoices):
    """What may have become of a test, the most urgent first."""

    NEW_FAILURES = "new_failures"
    STILL_FAILING = "still_failing"
    FIXED = "fixed"
    VANISHED = "vanished"
    NO_LONGER_RUN = "no_longer_run"
    NEW_TESTS = "new_tests"
    SLOWER = "slower"


@dataclass(frozen=True)
class Slower:
    """When a test that passed in both builds counts as slower: by both the factor and the minimum."""

    factor: float = 2.0
    minimum_ms: int = 500  # that it takes longer


SLOWER = Slower()  # unless told otherwise

# What of an outcome matters here: absent, passed, failed or in error, skipped, unknown.
_ABSENT, _PASSED, _RED, _SKIPPED, _UNKNOWN = range(5)
_CLASSES = {0: _ABSENT, 1: _PASSED, 2: _RED, 3: _RED, 4: _SKIPPED, 5: _UNKNOWN}
# An outcome's byte (with or without the bit for flaky attempts) as the low or the high half of a change.
_AFTER = bytes(_CLASSES.get(code & 0x7F, _UNKNOWN) for code in range(256))
_BEFORE = bytes(code << 4 for code in _AFTER)
_BOTH_PASSED = _PASSED << 4 | _PASSED
_RAN = {_PASSED, _RED}


def _is(kind: Kind, before: int, after: int) -> bool:
    match kind:
        case Kind.NEW_FAILURES:
            return after == _RED and before != _RED
        case Kind.STILL_FAILING:
            return after == before == _RED
        case Kind.FIXED:
            return before == _RED and after == _PASSED
        case Kind.VANISHED:
            return before != _ABSENT and after == _ABSENT
        case Kind.NO_LONGER_RUN:
            return before in _RAN and after == _SKIPPED
        case Kind.NEW_TESTS:
            return before == _ABSENT and after != _ABSENT
        case Kind.SLOWER:
            return False  # bytes of outcomes do not tell


# For each kind, which changes are of it: 1 in place of such a byte, 0 in place of any other.
_OF_KIND = {kind: bytes(_is(kind, each >> 4, each & 15) for each in range(256)) for kind in Kind}


@dataclass(frozen=True)
class GroupChanges:
    """The cases of one report group in both builds."""

    id: int
    name: str
    before: bytes
    after: bytes
    # A byte for each position: what was in the high half, what is in the low one.
    changes: bytes = field(repr=False)

    def count(self, kind: Kind) -> int:
        """How many cases changed in this way; not for SLOWER."""
        return self.changes.translate(_OF_KIND[kind]).count(1)

    def positions(self, kind: Kind) -> Iterator[int]:
        """Where they are; not for SLOWER."""
        marks = self.changes.translate(_OF_KIND[kind])
        position = marks.find(1)
        while position >= 0:
            yield position
            position = marks.find(1, position + 1)

    def ended(self, position: int) -> tuple[Ended | None, Ended | None]:
        """How the case at a position ended in both builds."""
        return ended(self.before, position), ended(self.after, position)

    def slower(self, than: Slower) -> Iterator[tuple[int, int]]:
        """By how many units a case is slower, and where it is."""
        least, factor = than.minimum_ms * 1_000_000 // UNIT_NS, than.factor
        rows = zip(self.changes, durations(self.before), durations(self.after), strict=False)
        for position, (change, before, after) in enumerate(rows):
            if (
                change == _BOTH_PASSED
                and after - before >= least
                and after > before
                and after >= factor * before
            ):
                yield after - before, position


@dataclass(frozen=True)
class CaseChange:
    """A test that changed."""

    kind: Kind
    case: CaseName
    before: Ended | None
    after: Ended | None

    def to_json(self) -> dict[str, Any]:
        """As the API and ``reports compare --json`` give it."""
        return {
            "kind": str(self.kind),
            **self.case.to_json(),
            "before": outcome_json(self.before),
            "after": outcome_json(self.after),
        }


def outcome_json(told: Ended | None) -> dict[str, Any] | None:
    """How a case ended, as the API gives it; None where the report does not have it."""
    if told is None:
        return None
    return {"outcome": told.outcome.value, "duration_ns": told.duration_ns, "flaky": told.flaky}


@dataclass(frozen=True)
class Comparison:
    """Two builds beside each other, by report group."""

    groups: tuple[GroupChanges, ...]
    # Why it cannot be relied on, in sentences, by report group; {} where it can.
    problems: dict[str, str]
    than: Slower = SLOWER

    def counts(self) -> dict[Kind, int]:
        """How many tests changed in which way."""
        found = {kind: sum(group.count(kind) for group in self.groups) for kind in Kind}
        found[Kind.SLOWER] = sum(1 for group in self.groups for _ in group.slower(self.than))
        return found

    def cases(self, kinds: Iterable[Kind], *, offset: int = 0, limit: int = PAGE) -> list[CaseChange]:
        """Of each kind the cases from ``offset`` on, at most ``limit``, with their names, by one query.

        Those that are slower come by how much; all others by report and position.
        """
        wanted = [
            (kind, group, position)
            for kind in kinds
            for group, position in islice(self._places(kind, offset + limit), offset, offset + limit)
        ]
        named = named_cases((group.id, position) for _, group, position in wanted)
        return [
            CaseChange(kind, named[group.id, position], *group.ended(position))
            for kind, group, position in wanted
            # A case that lost its row would have no name to show.
            if (group.id, position) in named
        ]

    def _places(self, kind: Kind, limit: int) -> Iterator[tuple[GroupChanges, int]]:
        if kind is not Kind.SLOWER:
            for group in self.groups:
                for position in group.positions(kind):
                    yield group, position
            return
        found = (
            (units, -index, -position)
            for index, group in enumerate(self.groups)
            for units, position in group.slower(self.than)
        )
        for _, index, position in nlargest(limit, found):
            yield self.groups[-index], -position


def compare(*, before: int, after: int, than: Slower = SLOWER) -> Comparison:
    """Compare two builds of one service by their ids. One query, however many reports they have."""
    return compare_pairs([(before, after)], than=than)[before, after]


def compare_pairs(
    pairs: Collection[tuple[int, int]], *, than: Slower = SLOWER, asserted: bool = True
) -> dict[tuple[int, int], Comparison]:
    """Compare builds by their ids, each the earlier one first, and of one service. One query for all.

    Without ``asserted``, reports that a caller sent are left out.
    """
    outcomes: dict[int, dict[tuple[int, str], bytes]] = {}
    problems: dict[int, dict[str, str]] = {}
    rows = (
        Report.objects.filter(build__in={build for pair in pairs for build in pair}, type="TEST")
        .order_by("group__name", "name")
        .values_list("build", "name", "group", "group__name", "parsed", "problem", "outcomes__data")
    )
    if not asserted:
        rows = rows.filter(source=Report.Source.CODEBUILD)
    for build, name, group, group_name, parsed, problem, data in rows:
        its_problems = problems.setdefault(build, {})
        told: Any = data  # django-stubs knows nothing of a report without outcomes
        if parsed is None or problem:
            why = f"{name} of build {build} is not complete ({problem or 'no raw file was read'})."
            its_problems.setdefault(group_name or name, why)
        elif told is None and parsed:
            why = f"How the tests of {name} of build {build} ended is not kept."
            its_problems.setdefault(group_name or name, why)
        if told is not None:
            its, key, raw = outcomes.setdefault(build, {}), (group, group_name), bytes(told)
            its[key] = together(its[key], raw) if key in its else raw
    return {
        (before, after): _comparison(
            outcomes.get(before, {}),
            outcomes.get(after, {}),
            # Of two the later build's: it is the one that somebody can mend.
            problems.get(before, {}) | problems.get(after, {}),
            than,
        )
        for before, after in pairs
    }


def _comparison(
    before: dict[tuple[int, str], bytes],
    after: dict[tuple[int, str], bytes],
    problems: dict[str, str],
    than: Slower,
) -> Comparison:
    groups = sorted(before.keys() | after.keys(), key=lambda each: each[1])
    changes = (_group(*each, before.get(each, b""), after.get(each, b"")) for each in groups)
    return Comparison(tuple(changes), problems, than)


def compare_builds(*, before: Build, after: Build, than: Slower = SLOWER) -> Comparison:
    """Compare two builds, which must be of one service: Invalid otherwise."""
    if before.service_id != after.service_id:
        raise Invalid(f"Builds {before.pk} and {after.pk} are of different services.")
    comparison = compare(before=before.pk, after=after.pk, than=than)
    for build in (before, after):
        if build.collected_at is None:
            comparison.problems.setdefault("", f"The reports of build {build.pk} have not been read yet.")
    return comparison


def previous_build(build: Build) -> Build | None:
    """The build to compare with unless another is named: the last one before it of which reports were read.

    Of the same branch where CodeBuild was told one; of whichever where that finds none.
    """
    earlier = Build.objects.filter(
        service=build.service_id, pk__lt=build.pk, reports__outcomes__isnull=False
    ).order_by("-pk")
    same = earlier.filter(source_version=build.source_version) if build.source_version else earlier.none()
    return same.first() or earlier.first()


def to_json(
    comparison: Comparison,
    *,
    before: Build,
    after: Build,
    kind: Kind | None = None,
    offset: int = 0,
    limit: int = PAGE,
) -> dict[str, Any]:
    """As the API and ``reports compare --json`` give it: all counts, and cases of one kind or of each."""
    counts = comparison.counts()
    cases = comparison.cases([kind] if kind else list(Kind), offset=offset, limit=limit)
    return {
        "build": _brief(after),
        "against": _brief(before),
        "reliable": not comparison.problems,
        "problems": list(comparison.problems.values()),
        "slower_than": {"factor": comparison.than.factor, "minimum_ms": comparison.than.minimum_ms},
        "counts": {str(each): number for each, number in counts.items()},
        "cases": [case.to_json() for case in cases],
    }


def _brief(build: Build) -> dict[str, Any]:
    return {
        "id": build.pk,
        "codebuild_id": build.codebuild_id,
        "commit": build.commit,
        "source_version": build.source_version,
        "finished_at": build.finished_at,
    }


def _group(pk: int, name: str, before: bytes, after: bytes) -> GroupChanges:
    size = max(len(before), len(after)) // SIZE
    # Two whole reports at once: as numbers, whose bytes do not run into each other.
    was = int.from_bytes(codes(before).translate(_BEFORE), "little")
    now = int.from_bytes(codes(after).translate(_AFTER), "little")
    return GroupChanges(pk, name, before, after, (was | now).to_bytes(size, "little"))
