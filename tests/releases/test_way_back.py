from pathlib import Path

import pytest

from apps.releases.manifest import migration_of
from apps.releases.migration_source import Step, read_steps
from apps.releases.way_back import read_json, steps_between, way_back_after, way_back_to

REPOSITORY = Path(__file__).resolve().parents[2]


def step(number, level="reversible", app="shop", **fields):
    operation = "" if level == "reversible" else f"operation {number}"
    return Step(app, f"{number:04d}", level, operation, **fields)


FIRST = [step(1)]


def test_without_a_migration_between_them_the_way_is_open():
    assert way_back_after(FIRST, FIRST).level == "reversible"
    assert way_back_to(FIRST, FIRST).level == "reversible"


@pytest.mark.parametrize("level", ["forward_compatible", "unknown", "one_way"])
def test_the_worst_migration_between_them_is_named(level):
    found = way_back_after(FIRST, [*FIRST, step(2, level), step(3)])
    assert (found.level, found.migration, found.operation) == (level, "shop.0002", "operation 2")


def test_one_way_weighs_more_than_unknown():
    found = way_back_after(FIRST, [*FIRST, step(2, "unknown"), step(3, "one_way"), step(4, "unknown")])
    assert (found.level, found.migration) == ("one_way", "shop.0003")


def test_what_both_have_does_not_count():
    both = [*FIRST, step(2, "one_way")]
    assert way_back_after(both, [*both, step(3)]).level == "reversible"
    assert way_back_after([*both, step(3)], both).level == "reversible"


def test_tables_of_an_app_that_the_other_lacks_are_none_of_its_business():
    new = [step(1, app="cart"), step(2, "one_way", app="cart")]
    assert way_back_after(FIRST, [*FIRST, *new]).level == "reversible"
    # An app that has been taken out of the code since.
    assert way_back_to(FIRST, [*new, *FIRST]).level == "reversible"


def test_a_squashed_migration_is_what_it_stands_for():
    old = [*FIRST, step(2, "one_way"), step(3)]
    squashed = [step(4, replaces=("shop.0001", "shop.0002", "shop.0003"))]
    assert steps_between(old, squashed) == []
    assert steps_between(squashed, old) == []


def test_contract_migrations_count_only_for_who_comes_back():
    after = [*FIRST, step(2, "one_way", contract=True)]
    assert way_back_after(FIRST, after).level == "reversible"
    assert way_back_to(FIRST, after).level == "one_way"
    assert way_back_to(FIRST, after, not_applied=["shop.0002"]).level == "reversible"


def test_nobody_can_vouch_for_what_a_deployment_applies():
    assert way_back_to(FIRST, [*FIRST, step(2, "one_way")], not_applied=["shop.0002"]).level == "one_way"


def test_releases_whose_migrations_were_not_read_are_unknown():
    for found in (way_back_after(None, FIRST), way_back_after(FIRST, None), way_back_to(None, FIRST)):
        assert found.level == "unknown"
        assert "not been read" in found.operation


def test_a_level_of_a_later_version_is_unknown():
    assert way_back_after(FIRST, [*FIRST, step(2, "sideways")]).level == "unknown"


def test_steps_survive_json():
    steps = [step(1), step(2, "one_way", contract=True, replaces=("shop.0001",))]
    assert read_json([each.to_json() for each in steps]) == steps
    assert read_json(None) is None


def test_the_source_of_every_migration_here_tells_its_level():
    """And none is one way: the release before runs on the database after (docs/migrations.md)."""
    sources = {
        key: path.read_bytes()
        for path in REPOSITORY.glob("apps/*/migrations/*.py")
        if (key := migration_of(path.relative_to(REPOSITORY).as_posix()))
    }
    assert len(sources) > 15
    shut = [step for step in read_steps(sources) if step.level not in ("reversible", "forward_compatible")]
    assert shut == []
