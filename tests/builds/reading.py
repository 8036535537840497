"""What the tests of report readers share."""

import io
from collections.abc import Iterable


class Endless(io.RawIOBase):
    """A file made of pieces, so that large ones need no memory."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces, self.rest = iter(pieces), b""

    def read(self, size: int = -1) -> bytes:
        while len(self.rest) < size and (piece := next(self.pieces, b"")):
            self.rest += piece
        part, self.rest = self.rest[:size], self.rest[size:]
        return part
