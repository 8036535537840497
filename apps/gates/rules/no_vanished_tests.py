"""At most so many tests are gone that what runs in the environment has.

A test that was renamed or moved is gone, and another is new. One that is skipped is still there.
"""

from dataclasses import dataclass
from datetime import datetime

from apps.gates.facts import Facts
from apps.gates.parameters import names, wait_minutes, whole_number
from apps.gates.rules.base import Rule, compare_with_running
from apps.gates.verdicts import Finding


@dataclass(frozen=True)
class Parameters:
    maximum: int = whole_number(default=0, help_text="Tests that may be gone, in all.")
    groups: tuple[str, ...] = names(help_text="Report groups that count; without any, every test report.")
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """A test is gone where no report of its group has it, whatever became of the others."""
    return compare_with_running(
        facts,
        groups=parameters.groups,
        wait_minutes=parameters.wait_minutes,
        maximum=parameters.maximum,
        at=at,
        noun="vanished test",
        count=lambda each: each.vanished,
        names=lambda each: each.first_vanished,
    )


RULE = Rule("no_vanished_tests", Parameters, judge)
