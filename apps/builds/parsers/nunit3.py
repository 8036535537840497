"""NUnit 3's XML, whose root is ``test-run``.

Its documentation is https://docs.nunit.org/articles/nunit/technical-notes/usage/Test-Result-XML-Format.html.
Where readers of it disagree, this one does the following.

- ``Failed`` is a failure: an assertion did not hold, or, by its ``label``, a time limit. With the labels
  ``Error``, ``Invalid`` and ``Cancelled`` it is an error, as NUnit's own ResultState tells them apart.
- ``Inconclusive`` is skipped: an assumption did not hold, so there was nothing to test.
- ``Warning`` passed: NUnit's console counts it apart from the failures, and ends with 0.
- ``testcasecount`` includes what a filter left out, so it is not believed.
- A suite that fails by itself (``OneTimeTearDown``) is no case. The console ends with an error then, and the
  build with it.
"""

from collections.abc import Iterator
from typing import IO

from apps.builds.parsers.case import NAME_LIMIT, Case, Outcome
from apps.builds.parsers.duration import seconds_ns
from apps.builds.parsers.nunit import NUnitReader, file_name

_RESULTS = {
    "passed": Outcome.PASSED,
    "warning": Outcome.PASSED,
    "failed": Outcome.FAILED,
    "skipped": Outcome.SKIPPED,
    "inconclusive": Outcome.SKIPPED,
}
_ERRORS = frozenset({"error", "invalid", "cancelled"})


def cases(stream: IO[bytes]) -> Iterator[Case]:
    """Yield each test case of an NUnit 3 file in order; raise ReportRefused where it cannot be read on."""
    return _Reader().read(stream)


class _Reader(NUnitReader):
    root = "test-run"
    title = "NUnit 3 XML"

    def case(self, attributes: dict[str, str]) -> Case:
        get = attributes.get
        outcome = _RESULTS.get(get("result", "").lower(), Outcome.UNKNOWN)
        if outcome is Outcome.FAILED and get("label", "").lower() in _ERRORS:
            outcome = Outcome.ERROR
        name = get("name", "") or get("fullname", "")
        duration = seconds_ns(get("duration", "") or get("time", ""))
        return Case(self.suite, get("classname", "")[:NAME_LIMIT], name[:NAME_LIMIT], outcome, duration)

    def suite_name(self, attributes: dict[str, str]) -> str:
        return file_name(attributes.get("name", "") or attributes.get("fullname", ""))
