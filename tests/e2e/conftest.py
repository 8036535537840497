"""The commit that all demos are of."""

from pathlib import Path

import pytest

from tests.e2e.demos import clone, git


@pytest.fixture(scope="session")
def commit() -> str:
    """The commit that is tested, whatever is committed meanwhile."""
    return git("rev-parse", "HEAD")


@pytest.fixture(scope="session")
def checkout(commit: str, tmp_path_factory) -> Path:
    """A clone of that commit."""
    return clone(commit, tmp_path_factory.mktemp("checkout") / "clone")
