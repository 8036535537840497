"""Most cases of JUnit XML without expat: those that passed and have nothing inside.

    <testcase classname="tests.test_a.TestA" name="test_b" time="0.001" />

An element on its own, without references or control characters in its values, can be nothing else wherever
XML has content. So a regular expression reads it, in half of the time that expat takes to call two handlers.
Whether it stands in content, expat knows, which has read all before it but for such elements; and if that is
in doubt, expat reads it as well. Chunks that are not ASCII go to expat as they are, and so do cases whose
attributes are others, or in another order, than those of the last one that expat read.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise, repeat
from typing import IO

from apps.builds.parsers.case import NAME_LIMIT, Case, Passed
from apps.builds.parsers.duration import seconds_ns
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.xml import XmlReader

_READ = ("classname", "name", "time")
_UNREAD = frozenset({"file", "line"})
# All of ASCII but quotes, < and &, and control characters, which XML forbids or makes spaces. Longer values
# may have to be cut. Told by what it has, since the pattern then looks each character up in one table.
_VALUE = rf'"([ !#-%\x27-;=-\x7f]{{0,{NAME_LIMIT // 2}}})"'
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class PlainCaseReader(XmlReader[Case | Passed]):
    """A reader that sees plain cases itself; the subclass hears all others, and keeps ``attributes``."""

    def __init__(self) -> None:
        super().__init__()
        self.suite = ""  # the name of the one that is open
        self.attributes: dict[str, str] = {}  # of the last case that expat read
        self._is_utf_16 = False
        self._in_cdata = False
        self._given = 0  # bytes that expat was given
        self._passed_line = 0  # the last one of which it was not given all
        self.parser.StartCdataSectionHandler = self._start_cdata
        self.parser.EndCdataSectionHandler = self._end_cdata

    def may_be_plain(self) -> bool:
        """Whether an element ``testcase`` that begins now is a case of the open suite, and of no file."""
        raise NotImplementedError

    def batches(self, stream: IO[bytes]) -> Iterator[list[Case | Passed]]:
        try:
            yield from super().batches(stream)
        except ReportRefused as error:
            if error.line == self._passed_line:
                # Expat's column does not count what it was not given.
                raise ReportRefused(error.cause, line=error.line) from error
            raise

    def parse(self, chunk: bytes) -> int:
        before = self._given
        if not before:
            # Its characters could be chosen so that their bytes look like a case. In all other encodings that
            # expat reads, ASCII is ASCII.
            self._is_utf_16 = len(chunk) < 4 or b"\0" in chunk[:4] or chunk.startswith(_UTF_16)
        names = tuple(self.attributes)
        pattern = _plain_case(names) if chunk.isascii() and not self._is_utf_16 else None
        if pattern is None:
            self._give(chunk)
        else:
            self._split(chunk.decode(), pattern, names)
        return self._given - before

    def _split(self, chunk: str, pattern: re.Pattern[str], names: tuple[str, ...]) -> None:
        """Take what the pattern finds for cases wherever it is one, and give expat all the rest."""
        pieces = pattern.split(chunk)
        # The text before a case, its values, the end of its tag, the text before the next one, and so on.
        width = len(names) + 2
        texts, ends = pieces[::width], pieces[width - 1 :: width]
        class_names, case_names, times = (pieces[1 + names.index(name) :: width] for name in _READ)
        # Cases with nothing between them stand in the same place, so one look is enough for all of them.
        starts = (0, *(number for number in range(1, len(texts)) if texts[number]))
        for start, stop in pairwise((*starts, len(ends))):
            self._give(texts[start].encode())
            if self._in_content():
                run = slice(start, stop)
                durations = map(seconds_ns, times[run])
                self.found += zip(repeat(self.suite), class_names[run], case_names[run], durations)
                self._pass_over(ends[run])
            else:
                for number in range(start, stop):
                    self._give(_as_written(names, pieces[number * width + 1 : (number + 1) * width]))

    def _give(self, data: bytes) -> None:
        if data:
            self.parser.Parse(data, False)
            self._given += len(data)

    def _pass_over(self, ends: list[str]) -> None:
        """Have expat count the lines of cases that it is not given; white space is nothing to it."""
        if ends:
            self._give(b"\n" * "".join(ends).count("\n"))
            self._passed_line = self.parser.CurrentLineNumber

    def _in_content(self) -> bool:
        # Within a comment, a tag and the like the parser has not come to the end of what it was given.
        at_end: bool = self.parser.CurrentByteIndex == self._given
        return at_end and not self._in_cdata and self.may_be_plain()

    def _start_cdata(self) -> None:
        self._in_cdata = True

    def _end_cdata(self) -> None:
        self._in_cdata = False


def _as_written(names: tuple[str, ...], pieces: list[str]) -> bytes:
    """A case, of its values and the end of its tag."""
    attributes = "".join(f' {name}="{value}"' for name, value in zip(names, pieces[:-1], strict=True))
    return f"<testcase{attributes}{pieces[-1]}".encode()


@lru_cache(maxsize=100)
def _plain_case(names: tuple[str, ...]) -> re.Pattern[str] | None:
    """A case without children that has these attributes; None where expat has to read such."""
    if not set(_READ) <= set(names) or _UNREAD & set(names):
        return None
    if not all(re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII) for name in names):
        return None
    attributes = "".join(f" {re.escape(name)}={_VALUE}" for name in names)
    return re.compile(rf"<testcase{attributes}((?: */>|></testcase>)(?:[ \t\n]|\r\n)*)")
