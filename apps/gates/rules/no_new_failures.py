"""At most so many tests fail that do not fail in what runs in the environment now.

What failed there as well does not count; how many may fail in all, ``max_failures`` asks.
"""

from dataclasses import dataclass
from datetime import datetime

from apps.gates.facts import Facts
from apps.gates.parameters import names, wait_minutes, whole_number
from apps.gates.rules.base import Rule, compare_with_running
from apps.gates.verdicts import Finding


@dataclass(frozen=True)
class Parameters:
    maximum: int = whole_number(default=0, help_text="Tests that may fail and did not before, in all.")
    groups: tuple[str, ...] = names(help_text="Report groups that count; without any, every test report.")
    wait_minutes: int = wait_minutes()


def judge(facts: Facts, parameters: Parameters, at: datetime) -> Finding:
    """A test that is new and fails is a new failure, too; one whose outcome is unknown may be one."""
    return compare_with_running(
        facts,
        groups=parameters.groups,
        wait_minutes=parameters.wait_minutes,
        maximum=parameters.maximum,
        at=at,
        noun="new failure",
        count=lambda each: each.new_failures,
        names=lambda each: each.first_new_failures,
        doubtful=lambda report: report.unknown,
    )


RULE = Rule("no_new_failures", Parameters, judge)
