"""JSON of reports, read as a stream: one member or item at a time, so that memory does not grow with it.

The standard library decodes a document only as a whole, and a library that streams would be one more to
ship. So this walks the outer arrays and objects itself and leaves what is small to ``json``'s C scanner. What
a reader does not ask for (screenshots in base64, of many megabytes each) is passed over undecoded.
"""

import codecs
import json
import re
from collections.abc import Container, Iterator
from typing import IO, Any

from apps.builds.parsers.errors import ReportRefused

CHUNK = 1 << 16  # bytes
WINDOW = 1 << 18  # characters that are decoded at once; objects of them take 50 times as much memory at most
STRING_LIMIT = 8 << 20  # characters in one string that is asked for
ARRAY_LIMIT = 100_000  # items in one array that is asked for as a whole
DEPTH_LIMIT = 200
# Values met one by one. Walking is slow beside decoding, and this keeps a hostile file from taking minutes.
STEP_LIMIT = 1_000_000

_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\[\]{}]*')  # what a container can hold between two brackets or strings
_STRING_REST = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_decoder = json.JSONDecoder()


class JsonReader:
    """A cursor in a document. ``items`` and ``members`` enter a container; within them, each value has to be
    consumed with ``value``, ``skip``, or by entering it, before the next is asked for.

    All raise ReportRefused where the document is not JSON, or beyond the bounds above.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        head = stream.read(CHUNK)
        if not head:
            raise ReportRefused("the file is empty")
        encoding = json.detect_encoding(head)
        self._decode = codecs.getincrementaldecoder(encoding)("strict")
        self._encoding = encoding
        self._text = ""
        self._at = 0
        self._line = 1  # of the beginning of _text
        self._ended = False
        self._steps = 0
        self._depth = 0
        self._append(head)

    def peek(self) -> str:
        """The character with which the next value begins; empty at the end."""
        found = self._text[self._at : self._at + 1]
        if found and found not in " \t\r\n":
            return found
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def items(self) -> Iterator[None]:
        """Enter an array and stop before each of its items."""
        self._open("[", "an array")
        if self.peek() == "]":
            self._close()
            return
        while True:
            yield
            if self._comma("]"):
                return

    def members(self) -> Iterator[str]:
        """Enter an object and stop before each of its values; yields their keys."""
        self._open("{", "an object")
        if self.peek() == "}":
            self._close()
            return
        while True:
            if self.peek() != '"':
                raise self.refusal("not well-formed JSON: the name of a member is expected")
            key = self.value()
            if self.peek() != ":":
                raise self.refusal("not well-formed JSON: ':' is expected")
            self._at += 1
            yield key
            if self._comma("}"):
                return

    def value(self, keep: Container[str] = ()) -> Any:
        """The next value, decoded.

        Of an object too large to be decoded at once only the members named in ``keep`` are read, at any
        depth.
        """
        self._step()
        first = self.peek()
        if len(self._text) - self._at < WINDOW:
            self._fill(WINDOW)
        try:
            value, end = _decoder.raw_decode(self._text, self._at)
        except RecursionError:
            raise self.refusal(f"values lie more than {DEPTH_LIMIT} deep") from None
        except ValueError as error:
            if self._ended:
                raise self._malformed(error) from None
        else:
            # A number at the very end of what was read may go on.
            if end < len(self._text) or self._ended:
                self._at = end
                return value
        if first == "{":
            return self._large_object(keep)
        if first == "[":
            return self._large_array(keep)
        if first == '"':
            return self._large_string()
        raise self.refusal("not well-formed JSON: a value is expected")

    def skip(self) -> None:
        """Pass over the next value."""
        self._step()
        first = self.peek()
        if first == '"':
            self._skip_string()
        elif first and first in "[{":
            self._skip_container()
        else:
            self.value()

    def finish(self) -> None:
        """The document has to end here."""
        if self.peek():
            raise self.refusal("not well-formed JSON: something follows its end")

    def refusal(self, cause: str) -> ReportRefused:
        """A refusal with the place where the cursor is."""
        return ReportRefused(cause, line=self._line + self._text.count("\n", 0, self._at))

    def _open(self, bracket: str, noun: str) -> None:
        self._step()
        if self.peek() != bracket:
            raise self.refusal(f"{noun} is expected")
        self._at += 1
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise self.refusal(f"values lie more than {DEPTH_LIMIT} deep")

    def _close(self) -> None:
        self._at += 1
        self._depth -= 1

    def _comma(self, bracket: str) -> bool:
        """Pass over a comma, or over the closing bracket, and say whether it was that."""
        found = self.peek()
        if found == bracket:
            self._close()
            return True
        if found != ",":
            told = "the file ends too early" if not found else f"',' or '{bracket}' is expected"
            raise self.refusal(f"not well-formed JSON: {told}")
        self._at += 1
        return False

    def _large_object(self, keep: Container[str]) -> dict[str, Any]:
        kept = {}
        for key in self.members():
            if key in keep:
                kept[key] = self.value(keep)
            else:
                self.skip()
        return kept

    def _large_array(self, keep: Container[str]) -> list[Any]:
        kept = []
        for _ in self.items():
            kept.append(self.value(keep))
            if len(kept) > ARRAY_LIMIT:
                raise self.refusal(f"a list is longer than {ARRAY_LIMIT:,}")
        return kept

    def _large_string(self) -> str:
        self._fill(STRING_LIMIT)
        try:
            value, end = _decoder.raw_decode(self._text, self._at)
        except ValueError as error:
            if self._ended:
                raise self._malformed(error) from None
            raise self.refusal(f"a text is longer than {STRING_LIMIT:,} characters") from None
        self._at = end
        return str(value)

    def _skip_string(self) -> None:
        self._at += 1
        while True:
            self._at = _STRING_REST.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._text.startswith('"', self._at):
                self._at += 1
                return
            if not self._more():
                raise self.refusal("not well-formed JSON: a text has no end")

    def _skip_container(self) -> None:
        # Looks at brackets and texts alone: what lies between them has no say in a verdict.
        open_brackets: list[str] = []
        while True:
            self._at = _PLAIN.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at == len(self._text):
                if not self._more():
                    raise self.refusal("not well-formed JSON: the file ends too early")
                continue
            found = self._text[self._at]
            self._step()
            if found == '"':
                self._skip_string()
                continue
            self._at += 1
            if found in "[{":
                open_brackets.append("]" if found == "[" else "}")
                if len(open_brackets) > DEPTH_LIMIT:
                    raise self.refusal(f"values lie more than {DEPTH_LIMIT} deep")
            elif open_brackets.pop() != found:
                raise self.refusal(f"not well-formed JSON: '{found}' closes nothing")
            if not open_brackets:
                return

    def _step(self) -> None:
        self._steps += 1
        if self._steps > STEP_LIMIT:
            raise self.refusal(f"it has more than {STEP_LIMIT:,} values")

    def _fill(self, size: int) -> None:
        """Have at least so many characters before the cursor, or all that there are."""
        while len(self._text) - self._at < size and self._more():
            pass

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        if self._ended:
            return False
        self._append(self._stream.read(CHUNK))
        return True

    def _append(self, data: bytes) -> None:
        try:
            text = self._decode.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise self.refusal(f"it is not {self._encoding.upper()}: {error.reason}") from error
        self._ended = not data
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + text, 0

    def _malformed(self, error: ValueError) -> ReportRefused:
        if isinstance(error, json.JSONDecodeError):
            line = self._line + self._text.count("\n", 0, error.pos)
            return ReportRefused(f"not well-formed JSON: {error.msg}", line=line)
        return self.refusal(f"not readable JSON: {error}")
