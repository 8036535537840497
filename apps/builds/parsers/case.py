"""What every parser of test reports yields, and what it raises."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a test case ended, in CodeBuild's words."""

    PASSED = "SUCCEEDED"
    FAILED = "FAILED"
    ERROR = "ERROR"
    SKIPPED = "SKIPPED"
    UNKNOWN = "UNKNOWN"


@dataclass(slots=True)
class Case:
    """A test case as one report tells it."""

    suite: str
    class_name: str
    name: str
    outcome: Outcome = Outcome.PASSED
    duration_ns: int = 0
    message: str = ""


class ParseError(Exception):
    """A file that is not what its format demands; the text says what and where, for people."""
