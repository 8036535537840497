"""What gates are told of a build's tests beside those of what runs, for many builds at once."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from apps.builds.compare import Comparison, GroupChanges, Kind, compare_pairs
from apps.builds.naming import named_cases
from apps.gates.facts import ComparisonFact, ReportFact
from apps.promotions.remembered import Remembered

CHANGES_TOLD = 10  # of each report group and kind
NAME_TOLD = 300  # characters
# Of pairs that are compared at once, since how their tests ended is in memory together: five bytes each.
CASES_AT_ONCE = 2_000_000

# Before and after, by build.
Pair = tuple[int, int]
Reports = Mapping[int, tuple[ReportFact, ...]]
# Builds that have been read change no more while their reports are the same.
Key = tuple[Pair, tuple[ReportFact, ...], tuple[ReportFact, ...]]
_compared: Remembered[Key, tuple[ComparisonFact, ...]] = Remembered(limit=4096)


def compare_for_gates(pairs: Collection[Pair], reports: Reports) -> dict[Pair, tuple[ComparisonFact, ...]]:
    """The comparisons of builds with those that run, by report group. ``reports`` are all of these builds'.

    Two queries for what this process has not compared yet, or two for every CASES_AT_ONCE tests of it.
    """
    keys = {pair: (pair, reports.get(pair[0], ()), reports.get(pair[1], ())) for pair in pairs}

    def compare(missing: list[Key]) -> dict[Key, tuple[ComparisonFact, ...]]:
        batches = _batches([pair for pair, *_ in missing], reports)
        return {keys[pair]: told for some in batches for pair, told in _compare(some).items()}

    told = _compared.look_up(keys.values(), compare)
    return {pair: told[key] for pair, key in keys.items()}


def _compare(pairs: Sequence[Pair]) -> dict[Pair, tuple[ComparisonFact, ...]]:
    # A report that somebody sent must not hide that a test is gone.
    comparisons = compare_pairs(pairs, asserted=False)
    groups = [group for each in comparisons.values() for group in each.groups]
    names = {
        place: str(name)[:NAME_TOLD]
        for place, name in named_cases(
            (group.id, position)
            for group in groups
            for kind in (Kind.NEW_FAILURES, Kind.VANISHED)
            for position in _first(group, kind)
        ).items()
    }
    return {pair: _facts(comparison, names) for pair, comparison in comparisons.items()}


def _facts(comparison: Comparison, names: Mapping[tuple[int, int], str]) -> tuple[ComparisonFact, ...]:
    def first(group: GroupChanges, kind: Kind) -> tuple[str, ...]:
        places = ((group.id, position) for position in _first(group, kind))
        return tuple(names[place] for place in places if place in names)

    told = {
        group.name: ComparisonFact(
            group=group.name,
            new_failures=group.count(Kind.NEW_FAILURES),
            vanished=group.count(Kind.VANISHED),
            first_new_failures=first(group, Kind.NEW_FAILURES),
            first_vanished=first(group, Kind.VANISHED),
            problem=comparison.problems.get(group.name, ""),
        )
        for group in comparison.groups
    }
    for name, problem in comparison.problems.items():
        told.setdefault(name, ComparisonFact(name, 0, 0, (), (), problem))
    return tuple(told[name] for name in sorted(told))


def _first(group: GroupChanges, kind: Kind) -> Iterable[int]:
    return islice(group.positions(kind), CHANGES_TOLD)


def _batches(pairs: Iterable[Pair], reports: Reports) -> Iterator[list[Pair]]:
    batch: list[Pair] = []
    size = 0
    for pair in pairs:
        cases = sum(each.parsed or 0 for build in pair for each in reports.get(build, ()))
        if batch and size + cases > CASES_AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += cases
    if batch:
        yield batch
