"""JUnit XML, as written by pytest, Surefire, Gradle, Jest and many others. There is no standard of it.

Where readers of it disagree, this one does the following.

- A case counts once, by its gravest result: error, then failure, then skipped.
- Surefire's reruns (https://maven.apache.org/surefire/maven-surefire-plugin/examples/rerun-failing-tests.html)
  are attempts of one case. ``flakyFailure`` and ``flakyError`` are those before it passed, so it passed;
  ``rerunFailure`` and ``rerunError`` are those after a ``failure`` or ``error``, which still decides: a case
  with reruns and no such result is one that passed, and flaky. Gradle's ``mergeReruns`` writes the same.
- Without ``mergeReruns``, and in files of other tools, each attempt is a ``testcase`` of the same name. Those
  stay cases of their own: parametrised tests look exactly alike, and to merge them could hide a failure.
  pytest-rerunfailures leaves no trace of the earlier attempts but their time.
- A ``status`` attribute is not read: a case without a result passed, as all readers of JUnit have it, also
  GoogleTest's disabled ones with ``status="notrun"``.
- Totals that a suite declares are not believed: what is listed counts. Only a file that declares tests and
  lists none is refused, since it would look as if nothing had failed.
- Durations: ``1,234.5`` has thousands, ``0,12`` a decimal comma. What is negative, infinite or no
  number is 0.
"""

import re
from collections.abc import Iterator
from typing import IO

from apps.builds.parsers.case import (
    DETAILS_LIMIT,
    GRAVITY,
    MESSAGE_LIMIT,
    NAME_LIMIT,
    Attempt,
    Case,
    Outcome,
    Passed,
    as_case,
    first_line,
)
from apps.builds.parsers.duration import seconds_ns
from apps.builds.parsers.plain_cases import PlainCaseReader

ATTEMPT_LIMIT = 100  # attempts kept of one case

_SUITES = frozenset({"testsuite", "testsuites"})
_RESULTS = {"skipped": Outcome.SKIPPED, "failure": Outcome.FAILED, "error": Outcome.ERROR}
_EARLIER = {"flakyFailure": Outcome.FAILED, "flakyError": Outcome.ERROR}
_LATER = {"rerunFailure": Outcome.FAILED, "rerunError": Outcome.ERROR}
_ANY = _RESULTS | _EARLIER | _LATER


def cases(stream: IO[bytes]) -> Iterator[Case | Passed]:
    """Yield each test case of a JUnit XML file in order; raise ReportRefused where it cannot be read on."""
    return _Reader().read(stream)


class _Reader(PlainCaseReader):
    """Hears cases without the detour by ``start`` and ``end``, since nearly all tags are theirs.

    An open case does not count in ``depth``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.declared = 0
        self.suites: list[tuple[str, str]] = []  # name and file of the open ones
        self.file = ""  # of the innermost, as is ``suite``
        self.opened: Passed | None = None  # the open case, as if it passed
        self.case: Case | None = None  # the open case, once it tells more
        self.outer_depth = 0  # of the innermost element that is open and not in a case
        self.result = ""  # the tag of the result that is open
        self.attempt: Attempt | None = None
        self.earlier: list[Attempt] = []
        self.later: list[Attempt] = []

    def may_be_plain(self) -> bool:
        return self.opened is None and bool(self.suites) and not self.file

    def start_case(self, tag: str, attributes: dict[str, str]) -> None:
        if tag != "testcase":
            self._start(tag, attributes)
            return
        if self.opened is not None:
            raise self.refusal("a testcase lies inside another")
        self.attributes = attributes
        try:
            class_name, name, time = attributes["classname"], attributes["name"], attributes["time"]
        except KeyError:
            get = attributes.get
            class_name, name, time = get("classname", ""), get("name", ""), get("time", "")
        if len(class_name) + len(name) > NAME_LIMIT:
            class_name, name = class_name[:NAME_LIMIT], name[:NAME_LIMIT]
        self.opened = (self.suite, class_name, name, seconds_ns(time))
        if self.file or "file" in attributes or "line" in attributes:
            self.case = case = as_case(self.opened)
            case.file = attributes.get("file", "")[:NAME_LIMIT] or self.file
            line = attributes.get("line", "")
            case.line = int(line) if re.fullmatch(r"[0-9]{1,9}", line) else None

    def end_case(self, tag: str) -> None:
        if tag != "testcase" or self.opened is None:
            self._end(tag)
            return
        self.found.append(self.opened if self.case is None else self.whole(self.case))
        self.opened = self.case = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self.opened is not None:
            if tag == "testcase":
                self.start_case(tag, attributes)
            elif tag in _ANY and self.depth == self.outer_depth + 1:
                self.case = self.case or as_case(self.opened)
                self.begin_result(tag, attributes)
            return
        if tag in _SUITES:
            self.begin_suite(attributes)
        elif self.depth == 1:
            raise self.refusal(f"not JUnit XML: its root is <{tag[:80]}>, not <testsuite> or <testsuites>")
        elif tag == "testcase":  # with a prefix
            self.depth -= 1
            self.start_case(tag, attributes)
        self.outer_depth = self.depth

    def end(self, tag: str) -> None:
        if tag == "testcase":
            self.depth += 1
            self.end_case(tag)
        elif self.attempt is not None:
            if self.depth == self.outer_depth and self.case is not None:
                self.end_result(self.case, self.attempt)
        elif self.opened is None:
            self.outer_depth = self.depth
            if tag in _SUITES:
                self.suites.pop()
                self.suite, self.file = self.suites[-1] if self.suites else ("", "")

    def finish(self) -> None:
        if self.declared and not self.count:
            raise self.refusal(f"it declares {self.declared:,} tests and lists none")

    def begin_suite(self, attributes: dict[str, str]) -> None:
        if not self.suites:
            tests = attributes.get("tests", "")
            self.declared = int(tests) if re.fullmatch(r"[0-9]{1,9}", tests) else 0
            self.parser.StartElementHandler = self.start_case
            self.parser.EndElementHandler = self.end_case
        self.suite = attributes.get("name", "")[:NAME_LIMIT]
        self.file = attributes.get("file", "")[:NAME_LIMIT] or self.file
        self.suites.append((self.suite, self.file))

    def begin_result(self, tag: str, attributes: dict[str, str]) -> None:
        message = attributes.get("message", "") or attributes.get("type", "")
        self.result = tag
        self.attempt = Attempt(_ANY[tag], seconds_ns(attributes.get("time", "")), message[:MESSAGE_LIMIT])
        self.collect(DETAILS_LIMIT)

    def end_result(self, case: Case, attempt: Attempt) -> None:
        attempt.details = self.collected()
        attempt.message = attempt.message or first_line(attempt.details)
        if self.result in _RESULTS:
            if GRAVITY[attempt.outcome] > GRAVITY[case.outcome]:
                case.outcome, case.message, case.details = attempt.outcome, attempt.message, attempt.details
        else:
            attempts = self.earlier if self.result in _EARLIER else self.later
            if len(attempts) < ATTEMPT_LIMIT:
                attempts.append(attempt)
        self.attempt = None

    def whole(self, case: Case) -> Case:
        """A case whose reruns are its attempts, beside the one that it shows itself."""
        if self.earlier or self.later:
            own = Attempt(case.outcome, case.duration_ns, case.message, case.details)
            case.attempts = (*self.earlier, own, *self.later)
            self.earlier, self.later = [], []
        return case
