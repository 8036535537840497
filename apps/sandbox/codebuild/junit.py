"""Read JUnit XML as CodeBuild's reports show it: streaming, and never expanding an entity."""

import re
from dataclasses import dataclass
from typing import IO, Any
from xml.parsers import expat

MAX_MESSAGE = 16 * 1024  # characters kept of one failure
_CHUNK = 1 << 16
_SUITES = ("testsuite", "testsuites")
# A case with several results counts once, as the worst of them.
_SEVERITY = {"SUCCEEDED": 0, "SKIPPED": 1, "FAILED": 2, "ERROR": 3}
_RESULTS = {"failure": "FAILED", "error": "ERROR", "skipped": "SKIPPED"}


class ReportFileError(Exception):
    """A report file that is not what its format says; the message says what and where."""


@dataclass
class Case:
    """One test case. `prefix` is JUnit's classname; `path` the file it came from."""

    prefix: str
    name: str
    suite: str
    status: str = "SUCCEEDED"
    nanoseconds: int = 0
    message: str = ""
    path: str = ""


def parse_junit(stream: IO[bytes], add: Any) -> None:
    """Call `add(Case)` for each test case of a file, in order.

    Raises ReportFileError for what is not well-formed, has no test suite, or declares entities: a DOCTYPE
    without them is read, since genuine reports carry one.
    """
    _Reader(stream, add).read()


def parse_seconds(text: str) -> int:
    """Return JUnit's time in nanoseconds: `1,234.5` has thousands, `0,12` a decimal comma; else 0."""
    text = text.strip()
    if re.fullmatch(r"\d+,\d+", text):
        text = text.replace(",", ".")
    try:
        seconds = float(text.replace(",", ""))
    except ValueError:
        return 0
    # Infinity and NaN are floats too.
    return round(seconds * 1e9) if 0 <= seconds < 1e9 else 0


class _Reader:
    def __init__(self, stream: IO[bytes], add: Any) -> None:
        self.stream, self.add = stream, add
        self.suites: list[str] = []
        self.root = ""
        self.case: Case | None = None
        self.result = ""
        self.text: list[str] = []
        self.text_size = 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.EntityDeclHandler = self._refuse_entity
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def read(self) -> None:
        try:
            while chunk := self.stream.read(_CHUNK):
                self.parser.Parse(chunk, False)
            self.parser.Parse(b"", True)
        except expat.ExpatError as error:
            place = f"line {error.lineno}, column {error.offset + 1}"
            raise ReportFileError(
                f"not well-formed XML: {expat.ErrorString(error.code)} at {place}"
            ) from error
        except (LookupError, ValueError) as error:  # an encoding that Python does not know
            raise ReportFileError(f"not readable XML: {error}") from error

    def _refuse_entity(self, name: str, *rest: Any) -> None:
        raise ReportFileError(f"declares the entity {name}; entities are not read")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        if not self.root:
            self.root = tag
            if tag not in _SUITES:
                raise ReportFileError(
                    f"not JUnit XML: the root element is <{tag}>, not <testsuite> or <testsuites>"
                )
        if tag in _SUITES:
            self.suites.append(attributes.get("name", ""))
        elif tag == "testcase":
            self.case = Case(
                prefix=attributes.get("classname", ""),
                name=attributes.get("name", ""),
                suite=self.suites[-1],
                nanoseconds=parse_seconds(attributes.get("time", "")),
            )
        elif self.case and tag in _RESULTS:
            self.result, self.text, self.text_size = tag, [], 0
            status = _RESULTS[tag]
            if _SEVERITY[status] > _SEVERITY[self.case.status]:
                self.case.status = status
                self.case.message = attributes.get("message", "")[:MAX_MESSAGE]

    def _end(self, tag: str) -> None:
        tag = tag.rpartition(":")[2]
        if tag in _SUITES:
            self.suites.pop()
        elif tag == "testcase" and self.case:
            self.add(self.case)
            self.case = None
        elif tag == self.result and self.case:
            if self.case.status == _RESULTS[tag] and not self.case.message:
                self.case.message = "".join(self.text).strip()[:MAX_MESSAGE]
            self.result = ""

    def _characters(self, data: str) -> None:
        if self.result and self.text_size < MAX_MESSAGE:
            self.text.append(data)
            self.text_size += len(data)
