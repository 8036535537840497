"""More commits, made in a clone: one that is good, and two that go wrong on purpose."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import DemoError
from .source import Repository

NOTE = "SECOND.md"
RED_TEST = "tests/test_red.py"
RED_NAME = "test_water_runs_uphill"
BROKEN = "backend/wsgi.py"
MISSING_MODULE = "a_module_that_nobody_wrote"


@dataclass(frozen=True)
class Scenario:
    """A commit, and what it is for."""

    name: str
    subject: str
    change: Callable[[Path], None]

    def make(self, repository: Repository, folder: Path) -> Repository:
        """Make the commit in a new clone below `folder` and return the clone."""
        clone = repository.clone(folder / self.name)
        self.change(clone.folder)
        clone.commit(self.subject)
        return clone


def add_red_test(root: Path) -> None:
    """Add a test that fails."""
    (root / RED_TEST).write_text(
        '"""Made by scripts/demo --scenario red-test."""\n\n\n'
        f'def {RED_NAME}():\n    assert "downhill" == "uphill"\n'
    )


def break_import(root: Path) -> None:
    """Make the application import what is not there: tests and checks pass, and no server can start."""
    path = root / BROKEN
    lines = path.read_text().splitlines(keepends=True)
    place = next((number for number, line in enumerate(lines) if line.startswith("application = ")), None)
    if place is None:
        raise DemoError(f"{BROKEN} has no line that makes the application, so it cannot be broken")
    lines.insert(place, f'__import__("{MISSING_MODULE}")  # made by scripts/demo --scenario bad-release\n')
    path.write_text("".join(lines))


def add_note(root: Path) -> None:
    """Add a file that changes nothing."""
    (root / NOTE).write_text("Made by scripts/demo --scenario upgrade.\n")


SCENARIOS = {
    "upgrade": Scenario("upgrade", "Say that this is the second", add_note),
    "red-test": Scenario("red-test", "Let water run uphill", add_red_test),
    "bad-release": Scenario("bad-release", "Import what nobody wrote", break_import),
}
