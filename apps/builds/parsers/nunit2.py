"""NUnit 2's XML, whose root is ``test-results``; also written by Pester, and by NUnit 3 when asked to.

Its schema is Results.xsd of NUnit 2.5 (https://nunit.org/docs/2.5/files/Results.xsd). Where readers of it
disagree, this one does the following.

- Every ``test-case`` counts. NUnit's ``total`` leaves out those that did not run, and is not believed.
- ``Ignored``, ``Skipped`` and ``NotRunnable`` are what NUnit sums up as ``not-run``: skipped.
  ``Inconclusive`` is skipped too: an assumption did not hold, so there was nothing to test.
- ``Error`` and ``Cancelled`` are errors: the test ended by something else than a failed assertion.
- Before NUnit 2.5 there is no ``result``: then ``executed`` and ``success`` tell.
- A case has only its full name. What precedes the last dot outside of arguments is its class. The suite is
  the file name of the outermost suite that has a name, since the folder differs from machine to machine.
"""

import re
from collections.abc import Iterator
from typing import IO

from apps.builds.parsers.case import NAME_LIMIT, Case, Outcome
from apps.builds.parsers.duration import seconds_ns
from apps.builds.parsers.nunit import NUnitReader, file_name

_RESULTS = {
    "success": Outcome.PASSED,
    "failure": Outcome.FAILED,
    "error": Outcome.ERROR,
    "cancelled": Outcome.ERROR,
    "ignored": Outcome.SKIPPED,
    "skipped": Outcome.SKIPPED,
    "notrunnable": Outcome.SKIPPED,
    "inconclusive": Outcome.SKIPPED,
}
_OPENING, _CLOSING = "([{<", ")]}>"
_BRACKET = re.compile(r'["(\[{<]')
_MARK = re.compile(r'\\.|[".()\[\]{}<>]')


def cases(stream: IO[bytes]) -> Iterator[Case]:
    """Yield each test case of an NUnit 2 file in order; raise ReportRefused where it cannot be read on."""
    return _Reader().read(stream)


def split_name(full: str) -> tuple[str, str]:
    """Class and name in a full name: in ``A.B<C.D>(1.5).Test("x.y")`` the name is ``Test("x.y")``."""
    depth, quoted, dot = 0, False, -1
    if not _BRACKET.search(full):
        dot = full.rfind(".")
    else:
        for match in _MARK.finditer(full):
            mark = match[0]
            if mark == '"':
                quoted = not quoted
            elif quoted:
                continue
            elif mark in _OPENING:
                depth += 1
            elif mark in _CLOSING:
                depth -= 1
            elif mark == "." and not depth:
                dot = match.start()
    return (full[:dot], full[dot + 1 :]) if dot > 0 and full[dot + 1 :] else ("", full)


class _Reader(NUnitReader):
    root = "test-results"
    title = "NUnit 2 XML"

    def case(self, attributes: dict[str, str]) -> Case:
        class_name, name = split_name(attributes.get("name", "")[:NAME_LIMIT])
        duration = seconds_ns(attributes.get("time", ""))
        return Case(self.suite, class_name, name, _outcome(attributes), duration)

    def suite_name(self, attributes: dict[str, str]) -> str:
        return file_name(attributes.get("name", ""))


def _outcome(attributes: dict[str, str]) -> Outcome:
    if result := attributes.get("result"):
        return _RESULTS.get(result.lower(), Outcome.UNKNOWN)
    if attributes.get("executed", "").lower() == "false":
        return Outcome.SKIPPED
    success = {"true": Outcome.PASSED, "false": Outcome.FAILED}
    return success.get(attributes.get("success", "").lower(), Outcome.UNKNOWN)
