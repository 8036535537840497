"""What lies between two releases, and whether the way from one back to the other is open."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from apps.releases.migration_source import WEIGHT, Level, Step


@dataclass(frozen=True)
class WayBack:
    """How open the way is, and the migration and operation that make it so; both empty where none does."""

    level: Level
    migration: str = ""
    operation: str = ""


# Of a release from before its migrations were read.
UNREAD = WayBack(
    Level.UNKNOWN, operation="its migrations have not been read: it is from before that was done"
)


def steps_between(before: Sequence[Step], after: Sequence[Step]) -> list[Step]:
    """What the database of ``after`` has seen and ``before`` does not know of, in order.

    Tables of an app that ``before`` does not have at all are none of its business.
    """
    known = {step.label for step in before} | {label for step in before for label in step.replaces}
    apps = {step.app for step in before}
    return [
        step
        for step in after
        if step.app in apps
        and step.label not in known
        # A squashed migration that stands for what was applied already does nothing.
        and not (step.replaces and set(step.replaces) <= known)
    ]


def way_over(steps: Iterable[Step]) -> WayBack:
    """How open the way back over these migrations is: as far as over the worst of them."""
    found = max(steps, key=lambda step: WEIGHT[level_of(step)], default=None)
    if found is None or level_of(found) == Level.REVERSIBLE:
        return WayBack(Level.REVERSIBLE)
    return WayBack(level_of(found), found.label, found.operation)


def level_of(step: Step) -> Level:
    """The step's level; one that a later version wrote, and this one does not know, is unknown."""
    return Level(step.level) if step.level in set(Level) else Level.UNKNOWN


def way_back_after(before: Sequence[Step] | None, after: Sequence[Step] | None) -> WayBack:
    """What a deployment of ``after`` leaves of the way back to ``before``.

    Contract migrations do not count: a deployment does not apply them. None is a release whose migrations
    have not been read.
    """
    if before is None or after is None:
        return UNREAD
    return way_over(step for step in steps_between(before, after) if not step.contract)


def way_back_to(
    target: Sequence[Step] | None, seen: Sequence[Step] | None, *, not_applied: Collection[str] = ()
) -> WayBack:
    """Whether ``target`` can run on a database that has seen the migrations of ``seen``.

    Contract migrations count as if they had been applied, unless ``not_applied`` names them: nobody tells
    Lockkeeper when an operator applies one.
    """
    if target is None or seen is None:
        return UNREAD
    steps = steps_between(target, seen)
    return way_over(step for step in steps if not (step.contract and step.label in not_applied))


def read_json(steps: list[dict[str, object]] | None) -> list[Step] | None:
    """Release.steps as values."""
    return None if steps is None else [Step.from_json(each) for each in steps]
