"""TestNG's ``testng-results.xml``.

Its documentation is https://testng.org/#_xml_reports, which shows the elements; what they mean is in
TestNG's XMLSuiteResultWriter. Where readers of it disagree, this one does the following.

- Every ``test-method`` counts that is not configuration (``is-config``). Where a ``@BeforeMethod`` fails,
  TestNG skips the tests that need it, and ends, as the build does, with an error.
- The totals of the root are not believed: they count a test that ran twice once, and some tools keep them
  when they cut the rest. Only a file that declares tests and lists no method at all is refused.
- With a retry analyser, the attempts before the last have ``retried``. TestNG calls them skipped; here they
  are failed attempts of the case with the same signature that follows in the class. Without one, they stay
  skipped cases.
- Any status other than PASS, FAIL and SKIP is unknown.
"""

import re
from collections.abc import Iterator
from typing import IO

from apps.builds.parsers.case import (
    DETAILS_LIMIT,
    MESSAGE_LIMIT,
    NAME_LIMIT,
    Attempt,
    Case,
    Outcome,
    first_line,
)
from apps.builds.parsers.duration import number_ns
from apps.builds.parsers.xml import XmlReader

MILLISECOND = 1_000_000  # nanoseconds
ATTEMPT_LIMIT = 100  # attempts kept of one case
_STATUSES = {"PASS": Outcome.PASSED, "FAIL": Outcome.FAILED, "SKIP": Outcome.SKIPPED}


def cases(stream: IO[bytes]) -> Iterator[Case]:
    """Yield each test method of a TestNG file in order; raise ReportRefused where it cannot be read on."""
    return _Reader().read(stream)


class _Reader(XmlReader[Case]):
    def __init__(self) -> None:
        super().__init__()
        self.suite = self.test = self.class_name = ""
        self.case: Case | None = None
        self.signature = ""
        self.is_retried = False
        self.in_exception = False
        self.retried: dict[str, list[Case]] = {}  # earlier attempts of this class, by signature
        self.declared = 0
        self.listed = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self.depth == 1:
            self.begin(tag, attributes)
        elif tag == "suite":
            self.suite = attributes.get("name", "")
        elif tag == "test":
            self.test = attributes.get("name", "")
        elif tag == "class":
            self.class_name = attributes.get("name", "")[:NAME_LIMIT]
        elif tag == "test-method":
            self.begin_method(attributes)
        elif self.case is not None:
            if tag == "exception":
                self.in_exception = True
                self.case.message = attributes.get("class", "")[:MESSAGE_LIMIT]
            elif self.in_exception and tag in {"message", "full-stacktrace"}:
                self.collect(DETAILS_LIMIT)

    def end(self, tag: str) -> None:
        if self.case is not None:
            if tag == "test-method":
                self.end_method(self.case)
            elif tag == "exception":
                self.in_exception = False
            elif self.in_exception and tag == "message":
                self.case.message = first_line(self.collected()) or self.case.message
            elif self.in_exception and tag == "full-stacktrace":
                self.case.details = self.collected()
        elif tag == "class":
            for attempts in self.retried.values():
                self.found.extend(attempts)
            self.retried.clear()

    def finish(self) -> None:
        if self.declared and not self.listed:
            raise self.refusal(f"it declares {self.declared:,} tests and lists none")

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag != "testng-results":
            raise self.refusal(f"not TestNG's XML: its root is <{tag[:80]}>, not <testng-results>")
        if re.fullmatch(r"[0-9]{1,9}", total := attributes.get("total", "")):
            self.declared = int(total)

    def begin_method(self, attributes: dict[str, str]) -> None:
        get = attributes.get
        self.listed = True
        if get("is-config", "").lower() == "true":
            return
        if self.case is not None:
            raise self.refusal("a test-method lies inside another")
        suite = f"{self.suite} / {self.test}" if self.suite and self.test else self.suite or self.test
        milliseconds = get("duration-ms", "")
        self.case = Case(
            suite[:NAME_LIMIT],
            self.class_name,
            get("name", "")[:NAME_LIMIT],
            _STATUSES.get(get("status", "").upper(), Outcome.UNKNOWN),
            number_ns(int(milliseconds), unit=MILLISECOND)
            if re.fullmatch("[0-9]{1,15}", milliseconds)
            else 0,
        )
        self.signature = get("signature", "")[:NAME_LIMIT]
        self.is_retried = get("retried", "").lower() == "true"

    def end_method(self, case: Case) -> None:
        self.case, self.in_exception = None, False
        if case.outcome is Outcome.PASSED:
            # An expected exception is told of a test that passed by throwing it.
            case.message = case.details = ""
        if self.is_retried and self.signature:
            attempts = self.retried.setdefault(self.signature, [])
            if len(attempts) < ATTEMPT_LIMIT:
                attempts.append(case)
            return
        if earlier := self.retried.pop(self.signature, []):
            failed = (
                Attempt(Outcome.FAILED, each.duration_ns, each.message, each.details) for each in earlier
            )
            case.attempts = (*failed, Attempt(case.outcome, case.duration_ns, case.message, case.details))
        self.found.append(case)
