"""A plugin of scripts/test: the quick tests first, whatever folder they are in."""

import pytest


def tier(item: pytest.Item) -> int:
    """0 for unit tests, 1 for integration, 2 for what runs the whole way of a commit, 3 for real hosts."""
    if item.get_closest_marker("hosts"):
        return 3
    if item.get_closest_marker("e2e") or item.get_closest_marker("browser"):
        return 2
    return 1 if item.get_closest_marker("integration") else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=tier)
