"""Readers of test and coverage reports, one module per format; this is the one way in.

The format is what the content says. A declared one, such as ``file-format`` of a buildspec, is checked
against it: a file that is not what the team says it is proves nothing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import IO

from apps.builds.parsers import xml
from apps.builds.parsers.case import Case, Passed, as_case
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import FileCoverage

HEAD = 1 << 16  # bytes that tell JSON formats apart


@dataclass(frozen=True)
class Format:
    """A format of reports. ``name`` is CodeBuild's, ``title`` its makers'; ``module`` reads it."""

    name: str
    title: str
    module: str
    is_coverage: bool = False

    def cases(self, stream: IO[bytes]) -> Iterator[Case]:
        """The cases of a test report in order, streamed; ReportRefused where it cannot be read on."""
        return map(as_case, self.found(stream))

    def found(self, stream: IO[bytes]) -> Iterator[Case | Passed]:
        """The cases as ``cases`` gives them, for who has to go through a hundred thousand in no time."""
        if self.is_coverage:
            raise ReportRefused(f"it is a coverage report ({self.title}), not a test report")
        found: Iterator[Case | Passed] = self._module().cases(stream)
        return found

    def coverage(self, stream: IO[bytes]) -> Iterator[FileCoverage]:
        """A FileCoverage for each file of a coverage report; ReportRefused where it cannot be read on."""
        if not self.is_coverage:
            raise ReportRefused(f"it is a test report ({self.title}), not a coverage report")
        found: Iterator[FileCoverage] = self._module().coverage(stream)
        return found

    def _module(self) -> ModuleType:
        return import_module(f"{__name__}.{self.module}")


FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        Format("JUNITXML", "JUnit XML", "junit"),
        Format("CUCUMBERJSON", "Cucumber JSON", "cucumber"),
        Format("NUNITXML", "NUnit 2", "nunit2"),
        Format("NUNIT3XML", "NUnit 3", "nunit3"),
        Format("TESTNGXML", "TestNG", "testng"),
        Format("VISUALSTUDIOTRX", "Visual Studio TRX", "trx"),
        Format("JACOCOXML", "JaCoCo", "jacoco", is_coverage=True),
        Format("SIMPLECOV", "SimpleCov JSON", "simplecov", is_coverage=True),
        Format("CLOVERXML", "Clover", "clover", is_coverage=True),
        Format("COBERTURAXML", "Cobertura", "cobertura", is_coverage=True),
    )
}

_BY_ROOT = {
    "testsuite": "JUNITXML",
    "testsuites": "JUNITXML",
    "test-results": "NUNITXML",
    "test-run": "NUNIT3XML",
    "testng-results": "TESTNGXML",
    "report": "JACOCOXML",
}
_VISUAL_STUDIO = "http://microsoft.com/schemas/VisualStudio/TeamTest/"  # and a year
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "ZIP", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def recognise(stream: IO[bytes], declared: str = "") -> Format:
    """The format of a report, from its beginning. The stream is left where it was, so it has to be seekable.

    Raises ReportRefused if it is in no known format, or in another than ``declared``, which is CodeBuild's
    name of a format in any case of letters.
    """
    if declared and declared.upper() not in FORMATS:
        raise ReportRefused(f"the format {declared[:80]!r} is not one of {', '.join(FORMATS)}")
    start = stream.tell()
    try:
        found = FORMATS[_name(stream, start)]
    finally:
        stream.seek(start)
    if declared and found.name != declared.upper():
        raise ReportRefused(f"it is declared as {declared.upper()}, and its content is {found.name}")
    return found


def cases(stream: IO[bytes], declared: str = "") -> Iterator[Case]:
    """The cases of a test report in whatever format, streamed; ReportRefused where it cannot be read on."""
    yield from recognise(stream, declared).cases(stream)


def coverage(stream: IO[bytes], declared: str = "") -> Iterator[FileCoverage]:
    """A FileCoverage for each file of a coverage report in whatever format; ReportRefused as in ``cases``."""
    yield from recognise(stream, declared).coverage(stream)


def _name(stream: IO[bytes], start: int) -> str:
    head = stream.read(HEAD)
    if not head:
        raise ReportRefused("the file is empty")
    for magic, packing in _PACKED.items():
        if head.startswith(magic):
            raise ReportRefused(f"it is packed with {packing}; unpack it first")
    text = head.decode(json.detect_encoding(head), "replace").lstrip("\ufeff \t\r\n")
    if text.startswith("<"):
        stream.seek(start)
        return _xml_name(xml.root(stream))
    if text.startswith("["):
        return "CUCUMBERJSON"
    if text.startswith("{") and '"coverage"' in text:
        return "SIMPLECOV"
    if text.startswith("{"):
        raise ReportRefused("it is JSON, and neither Cucumber's nor SimpleCov's")
    raise ReportRefused("it is neither XML nor JSON", line=1)


def _xml_name(root: xml.Root) -> str:
    if root.name == "TestRun" and root.namespace.startswith(_VISUAL_STUDIO):
        return "VISUALSTUDIOTRX"
    if root.name == "coverage":
        is_clover = "generated" in root.attributes or root.child in {"project", "testproject"}
        return "CLOVERXML" if is_clover else "COBERTURAXML"
    if root.name not in _BY_ROOT:
        namespace = f" of {root.namespace[:80]}" if root.namespace else ""
        raise ReportRefused(f"its root <{root.name[:80]}>{namespace} belongs to no known format", line=1)
    return _BY_ROOT[root.name]
