"""Visual Studio's TRX, as MSTest, ``vstest.console`` and ``dotnet test --logger trx`` write it.

Its schema is vstst.xsd of Visual Studio, with the outcomes of Microsoft's TestOutcome
(https://learn.microsoft.com/dotnet/api/microsoft.visualstudio.testtools.common.testoutcome). Where readers of
it disagree, this one does the following.

- A data-driven or ordered test has its rows in ``InnerResults``. It is one case, as it is one test in the
  definitions, with the message of the first row that failed, and never better than its worst row.
- ``Error``, ``Timeout``, ``Aborted``, ``Disconnected`` and ``PassedButRunAborted`` are errors. So is no
  outcome at all: Visual Studio leaves out the value 0 of TestOutcome, which is Error.
- ``NotExecuted``, ``NotRunnable`` and ``Inconclusive`` are skipped. ``Warning`` and ``Completed`` passed.
  ``Pending`` and ``InProgress`` are unknown: the run ended before they did.
- The counters of the summary are not believed: some loggers count rows.
- The class is not in the result but in a definition, which may come before or after all results. So the file
  is read twice, and the classes are what is remembered between; the stream has to be seekable. The suite is
  the file name of the test's assembly.
"""

from collections.abc import Iterator
from typing import IO

from apps.builds.parsers.case import (
    DETAILS_LIMIT,
    GRAVITY,
    NAME_LIMIT,
    Case,
    Outcome,
    first_line,
)
from apps.builds.parsers.duration import clock_ns
from apps.builds.parsers.nunit import file_name
from apps.builds.parsers.xml import XmlReader

TEST_LIMIT = 300_000  # tests in one file; the class of each is remembered

_OUTCOMES = {
    "passed": Outcome.PASSED,
    "warning": Outcome.PASSED,
    "completed": Outcome.PASSED,
    "failed": Outcome.FAILED,
    "": Outcome.ERROR,
    "error": Outcome.ERROR,
    "timeout": Outcome.ERROR,
    "aborted": Outcome.ERROR,
    "disconnected": Outcome.ERROR,
    "passedbutrunaborted": Outcome.ERROR,
    "notexecuted": Outcome.SKIPPED,
    "notrunnable": Outcome.SKIPPED,
    "inconclusive": Outcome.SKIPPED,
}
# Unit, coded UI, web, load, manual, generic and ordered tests.
_RESULTS = ("TestResult", "TestResultAggregation")
_TEXTS = frozenset({"Message", "StackTrace"})


def cases(stream: IO[bytes]) -> Iterator[Case]:
    """Yield each test of a TRX file in order; raise ReportRefused where it cannot be read on."""
    start = stream.tell()
    definitions = _Definitions()
    for _ in definitions.read(stream):
        pass
    stream.seek(start)
    yield from _Results(definitions.classes).read(stream)


class _Definitions(XmlReader[None]):
    """Reads which assembly and class each test is of, by its id."""

    def __init__(self) -> None:
        super().__init__()
        self.classes: dict[str, tuple[str, str]] = {}
        self.known: dict[tuple[str, str], tuple[str, str]] = {}
        self.test = ""
        self.results = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self.depth == 1 and tag != "TestRun":
            raise self.refusal(f"not Visual Studio's TRX: its root is <{tag[:80]}>, not <TestRun>")
        if self.depth == 3:
            self.test = attributes.get("id", "")[:NAME_LIMIT]
            self.results += tag.endswith(_RESULTS)
        elif tag == "TestMethod" and self.test:
            # MSTest names a class with its assembly: "A.B, Tests, Version=1.0.0.0, Culture=neutral".
            name = attributes.get("className", "").partition(",")[0].strip()[:NAME_LIMIT]
            where = (file_name(attributes.get("codeBase", "")), name)
            self.classes[self.test] = self.known.setdefault(where, where)

        if max(len(self.classes), self.results) > TEST_LIMIT:
            raise self.refusal(f"it has more than {TEST_LIMIT:,} tests")

    def end(self, tag: str) -> None:
        if self.depth == 2:
            self.test = ""


class _Results(XmlReader[Case]):
    def __init__(self, classes: dict[str, tuple[str, str]]) -> None:
        super().__init__()
        self.classes = classes
        self.case: Case | None = None
        self.inner: list[Outcome] = []  # of the open results, the outermost first
        self.in_results = self.in_error = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self.depth == 2:
            self.in_results = tag == "Results"
        elif self.in_results and tag.endswith(_RESULTS):
            self.begin_result(attributes)
        elif self.case is not None:
            if tag == "ErrorInfo":
                self.in_error = True
            elif self.in_error and tag in _TEXTS:
                self.collect(DETAILS_LIMIT)

    def end(self, tag: str) -> None:
        if self.case is None:
            return
        if tag == "ErrorInfo":
            self.in_error = False
        elif self.in_error and tag in _TEXTS:
            self.tell(self.case, tag, self.collected())
        elif tag.endswith(_RESULTS):
            self.inner.pop()
            if not self.inner:
                self.found.append(self.case)
                self.case = None

    def begin_result(self, attributes: dict[str, str]) -> None:
        get = attributes.get
        outcome = _OUTCOMES.get(get("outcome", "").lower(), Outcome.UNKNOWN)
        self.inner.append(outcome)
        if self.case is not None:
            if GRAVITY[outcome] > max(GRAVITY[self.case.outcome], GRAVITY[Outcome.SKIPPED]):
                self.case.outcome = outcome
            return
        suite, class_name = self.classes.get(get("testId", ""), ("", ""))
        name = get("testName", "")[:NAME_LIMIT]
        self.case = Case(suite, class_name, name, outcome, clock_ns(get("duration", "")))

    def tell(self, case: Case, tag: str, text: str) -> None:
        """Keep the first message, and below it whatever else the test and its rows tell."""
        if tag == "Message" and not case.message:
            case.message = first_line(text)
            text = text if case.message != text else ""
        case.details = f"{case.details}\n{text}".strip()[:DETAILS_LIMIT]
