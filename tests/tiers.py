"""A plugin of scripts/test: the quick tests first, whatever folder they are in."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Where several processes share a tier's files, these begin first, the longest of all at the top: a process
# that got one of them at the end would work on alone.
FIRST = (
    "tests/hooks/test_hooks_sweep.py",
    "tests/hooks/test_hooks_deployment.py",
    "tests/backend/test_crawl_admin.py",
    "tests/hooks/test_hooks_killed.py",
    "tests/sandbox/test_postgres.py",
    "tests/hooks/test_hooks_configuration.py",
    "tests/promotions/test_model.py",
    "tests/hooks/test_hooks_disk_full.py",
    "tests/hooks/test_hooks_swap.py",
    "tests/scripts/test_tiers.py",
    "tests/rollout/test_rollout_fleet.py",
    "tests/sandbox/test_codedeploy_delivery.py",
    "tests/hooks/test_hooks_retention.py",
    "tests/promotions/test_crashes.py",
    "tests/promotions/test_reconcile_processes.py",
    "tests/hooks/test_hooks_own.py",
    "tests/e2e/test_demo.py",
    "tests/e2e/test_demo_user.py",
)
NO_UNIT_TESTS = re.compile(r"^pytestmark = \[?pytest\.mark\.(integration|e2e|browser)\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not read, for the unit tests, files that say at their top that they hold none.

    In a fresh clone, as every build is, each process takes two seconds to compile and to load them.
    """
    if "not integration" not in config.option.markexpr or collection_path.suffix != ".py":
        return None
    return True if NO_UNIT_TESTS.search(collection_path.read_text()) else None


def tier(item: pytest.Item) -> int:
    """0 for unit tests, 1 for integration, 2 for what runs the whole way of a commit, 3 for real hosts."""
    if item.get_closest_marker("hosts"):
        return 3
    if item.get_closest_marker("e2e") or item.get_closest_marker("browser"):
        return 2
    return 1 if item.get_closest_marker("integration") else 0


def turn(item: pytest.Item) -> int:
    """When a file's turn comes within its tier."""
    name = str(item.path.relative_to(ROOT)) if item.path.is_relative_to(ROOT) else ""
    return FIRST.index(name) if name in FIRST else len(FIRST)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (tier(item), turn(item)))
