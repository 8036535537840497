"""What every reader of test reports yields."""

from dataclasses import dataclass
from enum import StrEnum

# What is kept of one case, in characters. The whole text stays in the raw file.
NAME_LIMIT = 4000
MESSAGE_LIMIT = 1000
DETAILS_LIMIT = 4000


class Outcome(StrEnum):
    """How a test case ended, in CodeBuild's words."""

    PASSED = "SUCCEEDED"
    FAILED = "FAILED"
    ERROR = "ERROR"
    SKIPPED = "SKIPPED"
    UNKNOWN = "UNKNOWN"


# Of several results of one case the gravest counts. What nobody can tell is graver than a skip.
GRAVITY = {
    Outcome.PASSED: 0,
    Outcome.SKIPPED: 1,
    Outcome.UNKNOWN: 2,
    Outcome.FAILED: 3,
    Outcome.ERROR: 4,
}


@dataclass(slots=True)
class Attempt:
    """One run of a case that was run several times."""

    outcome: Outcome
    duration_ns: int = 0
    message: str = ""
    details: str = ""


@dataclass(slots=True)
class Case:
    """A test case as one report tells it.

    ``message`` is the one line that people read first, ``details`` the trace below it. ``file`` and ``line``
    are where the test is, where the report says so. ``attempts`` are all runs in order if the report tells of
    more than one; ``outcome`` is then what the tool made of them.
    """

    suite: str
    class_name: str
    name: str
    outcome: Outcome = Outcome.PASSED
    duration_ns: int = 0
    message: str = ""
    details: str = ""
    file: str = ""
    line: int | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def text(self) -> str:
        """Message and details, once each: many tools begin the details with the message."""
        if self.details.startswith(self.message):
            return self.details
        return f"{self.message}\n{self.details}" if self.details else self.message

    @property
    def flaky(self) -> bool:
        """Whether it passed in one attempt and failed in another."""
        outcomes = {attempt.outcome for attempt in self.attempts}
        return Outcome.PASSED in outcomes and bool(outcomes & {Outcome.FAILED, Outcome.ERROR})


# Suite, class name, name and nanoseconds of a case that passed and tells nothing else. Nearly all are such,
# and a reader may give them so, since a hundred thousand cost a fraction of as many of Case.
Passed = tuple[str, str, str, int]


def as_case(found: Case | Passed) -> Case:
    """A case as a whole, however a reader gave it."""
    if isinstance(found, Case):
        return found
    suite, class_name, name, duration_ns = found
    return Case(suite, class_name, name, Outcome.PASSED, duration_ns)


def first_line(text: str) -> str:
    """The first line of a text as a message, where a report has no other."""
    return text.partition("\n")[0].strip()[:MESSAGE_LIMIT]
