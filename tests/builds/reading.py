"""What the tests of report readers share."""

import io
from collections.abc import Iterable
from types import ModuleType

from apps.builds.parsers.case import Case
from apps.builds.parsers.file_coverage import FileCoverage


def read(module: ModuleType, text: str | bytes) -> list[Case]:
    """The cases that a reader finds in a text."""
    return list(module.cases(io.BytesIO(text.encode() if isinstance(text, str) else text)))


def covered(module: ModuleType, text: str | bytes) -> list[FileCoverage]:
    """The files that a reader of coverage finds in a text."""
    return list(module.coverage(io.BytesIO(text.encode() if isinstance(text, str) else text)))


class Endless(io.RawIOBase):
    """A file made of pieces, so that large ones need no memory."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces, self.rest = iter(pieces), b""

    def read(self, size: int = -1) -> bytes:
        while len(self.rest) < size and (piece := next(self.pieces, b"")):
            self.rest += piece
        part, self.rest = self.rest[:size], self.rest[size:]
        return part
