"""JUnit XML, as written by pytest, Surefire, Gradle, Jest and many others. There is no standard of it.

Where readers of it disagree, this one does the following.

- A case counts once, by its gravest result: error, then failure, then skipped.
- ``rerunFailure`` and ``flakyFailure`` (Surefire's reruns) are no results: beside the first stands a
  ``failure`` as well, and a flaky case passed in the end.
- A ``status`` attribute is not read: a case without a result passed, as all readers of JUnit have it, also
  GoogleTest's disabled ones with ``status="notrun"``.
- Totals that a suite declares are not believed: what is listed counts. Only a file that declares tests and
  lists none is refused, since it would look as if nothing had failed.
- Durations: ``1,234.5`` has thousands, ``0,12`` a decimal comma. What is negative, infinite or no
  number is 0.

It is read as a stream by expat. A DOCTYPE alone is fine, as genuine reports have one; an internal subset is
refused, and with it every entity.
"""

import re
from collections.abc import Iterator
from typing import IO
from xml.parsers import expat

from apps.builds.parsers.case import Case, Outcome, ParseError

CHUNK = 1 << 16  # bytes
MESSAGE_LIMIT = 4000  # characters kept of one result
NAME_LIMIT = 4000  # characters; longer names are no names
# What expat holds in memory at once is one tag with its attributes; some tools put whole logs there.
TOKEN_LIMIT = 8 << 20  # bytes
DEPTH_LIMIT = 200  # elements inside one another

_SUITES = frozenset({"testsuite", "testsuites"})
_RESULTS = {"skipped": Outcome.SKIPPED, "failure": Outcome.FAILED, "error": Outcome.ERROR}
_GRAVITY = {
    Outcome.PASSED: 0,
    Outcome.UNKNOWN: 1,
    Outcome.SKIPPED: 2,
    Outcome.FAILED: 3,
    Outcome.ERROR: 4,
}


def parse(stream: IO[bytes]) -> Iterator[Case]:
    """Yield each test case of a JUnit XML file in order; raise ParseError where it cannot be read on."""
    reader = _Reader()
    fed = 0
    try:
        while chunk := stream.read(CHUNK):
            reader.parser.Parse(chunk, False)
            fed += len(chunk)
            if fed - reader.parser.CurrentByteIndex > TOKEN_LIMIT:
                raise ParseError(f"a tag or comment is larger than {TOKEN_LIMIT:,} bytes ({reader.place()})")
            yield from reader.take()
        if not fed:
            raise ParseError("the file is empty")
        reader.parser.Parse(b"", True)
    except expat.ExpatError as error:
        where = f"line {error.lineno}, column {error.offset + 1}"
        raise ParseError(f"not well-formed XML: {expat.ErrorString(error.code)} ({where})") from error
    except (LookupError, ValueError) as error:
        # An encoding that Python does not know, or one of several bytes.
        raise ParseError(f"not readable XML: {error}") from error
    yield from reader.take()
    reader.check_end()


def duration_ns(text: str) -> int:
    """JUnit's ``time``, in seconds, as nanoseconds; 0 for what is no duration."""
    text = text.strip()
    if "," in text:
        text = text.replace(",", "." if re.fullmatch(r"\d+,\d+", text) else "")
    try:
        seconds = float(text or 0)
    except ValueError:
        return 0
    # Also false for NaN and infinity. A century is no duration of a test.
    return round(seconds * 1e9) if 0 <= seconds < 3e9 else 0


class _Reader:
    """expat's handlers, and what they remember between two tags."""

    def __init__(self) -> None:
        self.found: list[Case] = []
        self.count = 0
        self.declared = 0
        self.depth = 0
        self.suites: list[str] = []
        self.case: Case | None = None
        self.case_depth = 0
        self.result: Outcome | None = None
        self.text: list[str] = []
        self.room = 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.EntityDeclHandler = self.entity
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end

    def take(self) -> list[Case]:
        """The cases found since it was last asked."""
        found, self.found = self.found, []
        return found

    def place(self) -> str:
        return f"line {self.parser.CurrentLineNumber}, column {self.parser.CurrentColumnNumber + 1}"

    def check_end(self) -> None:
        if self.declared and not self.count:
            raise ParseError(f"it declares {self.declared:,} tests and lists none")

    def doctype(self, name: str, system: str | None, public: str | None, internal_subset: bool) -> None:
        if internal_subset:
            raise ParseError(f"its DOCTYPE has an internal subset, which is not read ({self.place()})")

    def entity(self, name: str, *rest: object) -> None:
        raise ParseError(f"it declares the entity {name}, and entities are not read ({self.place()})")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if ":" in tag:
            tag = tag.rpartition(":")[2]
        if tag == "testcase":
            if not self.suites:
                self.refuse_root(tag)
            self.begin_case(attributes)
        elif self.case is not None:
            if tag in _RESULTS and self.depth == self.case_depth + 1:
                self.begin_result(self.case, _RESULTS[tag], attributes)
        elif tag in _SUITES:
            self.suites.append(attributes.get("name", "")[:NAME_LIMIT])
            self.declare(attributes.get("tests", ""))
        elif not self.suites:
            self.refuse_root(tag)
        if self.depth > DEPTH_LIMIT:
            raise ParseError(f"elements lie more than {DEPTH_LIMIT} deep ({self.place()})")

    def end(self, tag: str) -> None:
        self.depth -= 1
        if self.case is not None:
            if self.result is not None and self.depth == self.case_depth:
                self.end_result(self.case)
            elif self.depth < self.case_depth:
                self.found.append(self.case)
                self.count += 1
                self.case = None
        elif (tag.rpartition(":")[2] if ":" in tag else tag) in _SUITES:
            self.suites.pop()

    def begin_case(self, attributes: dict[str, str]) -> None:
        if self.case is not None:
            raise ParseError(f"a testcase lies inside another ({self.place()})")
        self.case_depth = self.depth
        self.case = Case(
            self.suites[-1],
            attributes.get("classname", "")[:NAME_LIMIT],
            attributes.get("name", "")[:NAME_LIMIT],
            Outcome.PASSED,
            duration_ns(attributes.get("time", "")),
        )

    def begin_result(self, case: Case, outcome: Outcome, attributes: dict[str, str]) -> None:
        if _GRAVITY[outcome] <= _GRAVITY[case.outcome]:
            return
        case.outcome = outcome
        self.result = outcome
        self.text = [attributes.get("message", "") or attributes.get("type", "")]
        self.room = MESSAGE_LIMIT
        # Text matters only here; without a handler, expat goes through the logs of a report faster.
        self.parser.CharacterDataHandler = self.characters

    def end_result(self, case: Case) -> None:
        self.parser.CharacterDataHandler = None
        message, *text = self.text
        details = "".join(text).strip()
        # Most tools repeat the message as the first line of the text.
        parts = [details] if details.startswith(message) else [message, details]
        case.message = "\n".join(part for part in parts if part)[:MESSAGE_LIMIT]
        self.result = None

    def characters(self, data: str) -> None:
        if self.room > 0:
            self.text.append(data[: self.room])
            self.room -= len(data)

    def declare(self, tests: str) -> None:
        if len(self.suites) == 1 and re.fullmatch(r"\d{1,9}", tests):
            self.declared = int(tests)

    def refuse_root(self, tag: str) -> None:
        if self.depth == 1:
            raise ParseError(f"not JUnit XML: its root is <{tag[:80]}>, not <testsuite> or <testsuites>")
