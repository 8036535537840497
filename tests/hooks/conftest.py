"""Hosts, wheelhouses and bundles for the hooks' tests."""

import itertools
import sys

import pytest

from tests.hooks import trees
from tests.hooks.agent import Machine

pytest.register_assert_rewrite("tests.hooks.laboratory")
# The deploy program is no part of the site: it runs on hosts, from its own folder.
sys.path.insert(0, str(trees.REPOSITORY / "scripts/codedeploy"))


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory):
    """What the tiny service needs."""
    return trees.make_wheelhouse(tmp_path_factory.mktemp("wheels") / "house", ["gunicorn", "uv"])


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory, wheelhouse):
    """A function that makes a bundle of the tiny service; equal arguments give the same bundle."""
    made = {}
    numbers = itertools.count()

    def make(tale="one", **faults):
        key = (tale, *sorted(faults.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp(f"bundle{next(numbers)}")
            (folder / "tree").mkdir()
            tree = trees.make_tiny_tree(folder / "tree", tale=tale, **faults)
            made[key] = trees.bundle(tree, wheelhouse, folder / "made.tar")
        return made[key]

    return make


@pytest.fixture
def machine(tmp_path):
    """A host that is up and has no release."""
    machine = Machine(tmp_path / "staging-1" / "root")
    yield machine
    machine.up.power_off()
