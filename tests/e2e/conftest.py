"""The commits that the demos are of."""

from pathlib import Path

import pytest

from tests.e2e.demos import clone, git


@pytest.fixture(scope="session")
def commit() -> str:
    """The commit that is tested, whatever is committed meanwhile."""
    return git("rev-parse", "HEAD")


@pytest.fixture(scope="session")
def checkout(commit: str, tmp_path_factory) -> Path:
    """A clone of that commit, with one on top whose build runs fewer tests.

    Three builds are made of it, and all unit tests would take each of them minutes of a processor. The demo
    of the commit itself, tests and all, is that of tests/e2e/test_demo_user.py.
    """
    checkout = clone(commit, tmp_path_factory.mktemp("checkout") / "clone")
    buildspec = checkout / "buildspec.yml"
    everything = "scripts/test unit --quiet"
    assert everything in buildspec.read_text()
    buildspec.write_text(
        buildspec.read_text().replace(everything, f"{everything} tests/gates tests/test_*.py")
    )
    identity = ["-c", "user.name=Lockkeeper", "-c", "user.email=lockkeeper@example.com"]
    git(*identity, "commit", "--quiet", "--all", "--message", "Run fewer tests", folder=checkout)
    return checkout
