"""XML of reports, read as a stream by expat within bounds.

Entities are never read. A DOCTYPE alone is fine, as genuine reports of JaCoCo and Cobertura have one, and so
is an external entity, which is passed over and never fetched. Any other declaration is refused: an internal
entity, and an attribute's default, can make a small file a huge one. What expat keeps is bounded as well: one
tag with its attributes, the open elements, and every distinct name.
"""

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import IO, Generic, TypeVar
from xml.parsers import expat

from apps.builds.parsers.errors import ReportRefused

CHUNK = 1 << 16  # bytes
# What expat holds in memory at once is one tag with its attributes; some tools put whole logs there.
TOKEN_LIMIT = 8 << 20  # bytes
DEPTH_LIMIT = 200  # elements inside one another
NAME_COUNT_LIMIT = 10_000  # distinct names of elements and attributes; real formats have dozens
ITEM_LIMIT = 1_000_000  # cases or files in one report file
ELEMENT_LIMIT = 2_000_000  # elements in one report file, beside the cases of JUnit; seconds of work
PROLOG_LIMIT = 1 << 20  # bytes in which the root has to begin

# Encodings of several bytes that East Asian tools write, and expat cannot read.
MULTIBYTE = frozenset(
    {
        "big5",
        "big5hkscs",
        "cp932",
        "cp949",
        "cp950",
        "euc_jp",
        "euc_kr",
        "gb18030",
        "gb2312",
        "gbk",
        "shift_jis",
    }
)
_ENCODING = re.compile(rb"""^(<\?xml[^>]{1,200}?encoding\s*=\s*["'])([\w.:-]{1,40})(["'])""")

T = TypeVar("T")


class XmlReader(Generic[T]):
    """A reader of one format: a subclass hears each tag and appends what it makes of them to ``found``.

    ``start`` and ``end`` hear names without their namespace prefix. ``depth`` is 1 within the root.
    """

    def __init__(self) -> None:
        self.found: list[T] = []
        self.count = 0
        self.depth = 0
        self._elements = 0
        self._text: list[str] = []
        self._room = 0
        self.parser = _parser()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """A tag opened."""
        raise NotImplementedError

    def end(self, tag: str) -> None:
        """A tag closed; ``depth`` is that of its parent."""
        raise NotImplementedError

    def finish(self) -> None:
        """The document ended. Refuse here what is well-formed and yet no report."""

    def read(self, stream: IO[bytes]) -> Iterator[T]:
        """Yield what the subclass finds, in order; raise ReportRefused where it cannot be read on."""
        return chain.from_iterable(self.batches(stream))

    def batches(self, stream: IO[bytes]) -> Iterator[list[T]]:
        """What ``read`` yields, as it was found in one piece of the stream after the other."""
        for _ in feed(self.parser, stream, self.parse):
            if self.found:
                yield self._take()
        self.finish()

    def parse(self, chunk: bytes) -> int:
        """Have the parser read on; return how many bytes it was given."""
        self.parser.Parse(chunk, False)
        return len(chunk)

    def refusal(self, cause: str) -> ReportRefused:
        """A refusal with the place where the parser is."""
        return refusal(self.parser, cause)

    def collect(self, limit: int) -> None:
        """Keep the text from here on, up to a number of characters, until ``collected`` is called.

        Without a handler expat goes through the logs of a report faster, so there is none otherwise.
        """
        self._text, self._room = [], limit
        self.parser.CharacterDataHandler = self._characters

    def collected(self) -> str:
        """The text since ``collect``, without white space around it."""
        self.parser.CharacterDataHandler = None
        text, self._text = "".join(self._text).strip(), []
        return text

    def _take(self) -> list[T]:
        found, self.found = self.found, []
        self.count += len(found)
        if self.count > ITEM_LIMIT:
            raise self.refusal(f"it has more than {ITEM_LIMIT:,} entries")
        return found

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        self._elements += 1
        if self.depth > DEPTH_LIMIT:
            raise self.refusal(f"elements lie more than {DEPTH_LIMIT} deep")
        if self._elements > ELEMENT_LIMIT:
            raise self.refusal(f"it has more than {ELEMENT_LIMIT:,} elements")
        self.start(tag.rpartition(":")[2] if ":" in tag else tag, attributes)

    def _end(self, tag: str) -> None:
        self.depth -= 1
        self.end(tag.rpartition(":")[2] if ":" in tag else tag)

    def _characters(self, data: str) -> None:
        if self._room > 0:
            self._text.append(data[: self._room])
            self._room -= len(data)


@dataclass(frozen=True)
class Root:
    """The beginning of a document: its root and the name of the first element in it, without prefixes."""

    name: str
    namespace: str
    attributes: dict[str, str]
    child: str


def root(stream: IO[bytes]) -> Root:
    """What a document begins with; raise ReportRefused if it does not begin as XML does.

    Reads no further than it needs, and a root cut short is told as it is: its reader will say so better.
    """
    seen: list[tuple[str, dict[str, str]]] = []
    parser = _parser()
    parser.StartElementHandler = lambda tag, attributes: seen.append((tag, attributes))
    fed = 0
    try:
        for size in feed(parser, stream):
            fed += size
            if len(seen) > 1 or (seen and fed > PROLOG_LIMIT):
                break
            if fed > PROLOG_LIMIT:
                raise ReportRefused(f"no element begins in its first {PROLOG_LIMIT:,} bytes")
    except ReportRefused:
        if not seen:
            raise
    tag, attributes = seen[0]
    prefix, _, name = tag.rpartition(":")
    namespace = attributes.get(f"xmlns:{prefix}" if prefix else "xmlns", "")
    child = seen[1][0].rpartition(":")[2] if len(seen) > 1 else ""
    return Root(name, namespace, attributes, child)


def feed(
    parser: expat.XMLParserType, stream: IO[bytes], parse: Callable[[bytes], int] | None = None
) -> Iterator[int]:
    """Feed a stream to its end, yielding after each piece its size; raise ReportRefused beyond the bounds.

    ``parse`` gives a piece to the parser, or what it has not read itself, and returns the bytes of that.
    """
    fed = given = 0
    try:
        for chunk in _chunks(stream):
            fed += len(chunk)
            if parse is None:
                parser.Parse(chunk, False)
                given = fed
            else:
                given += parse(chunk)
            if given - parser.CurrentByteIndex > TOKEN_LIMIT:
                raise refusal(parser, f"a tag or comment is larger than {TOKEN_LIMIT:,} bytes")
            if len(parser.intern) > NAME_COUNT_LIMIT:
                raise refusal(
                    parser, f"it has more than {NAME_COUNT_LIMIT:,} names of elements and attributes"
                )
            yield len(chunk)
        if not fed:
            raise ReportRefused("the file is empty")
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ReportRefused(
            f"not well-formed XML: {expat.ErrorString(error.code)}",
            line=error.lineno,
            column=error.offset + 1,
        ) from error
    except (LookupError, ValueError) as error:
        # An encoding that Python does not know, or bytes that are not in it.
        raise ReportRefused(f"not readable XML: {error}", line=1) from error
    yield 0


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """A stream in pieces, as UTF-8 where it is in an encoding that expat does not read."""
    chunk = stream.read(CHUNK)
    match = _ENCODING.match(chunk)
    encoding = codecs.lookup(match[2].decode("ascii", "replace")) if match else None
    if match is None or encoding is None or encoding.name not in MULTIBYTE:
        while chunk:
            yield chunk
            chunk = stream.read(CHUNK)
        return
    decoder = encoding.incrementaldecoder("strict")
    yield match[1] + b"utf-8" + match[3]
    chunk = chunk[match.end() :]
    while chunk:
        if text := decoder.decode(chunk):
            yield text.encode()
        chunk = stream.read(CHUNK)
    decoder.decode(b"", final=True)


def refusal(parser: expat.XMLParserType, cause: str) -> ReportRefused:
    """A refusal with the place where a parser is."""
    return ReportRefused(cause, line=parser.CurrentLineNumber, column=parser.CurrentColumnNumber + 1)


def _parser() -> expat.XMLParserType:
    def entity(name: str, is_parameter: bool, value: str | None, *rest: object) -> None:
        if is_parameter or value is not None:
            raise refusal(parser, f"it declares the entity {name[:80]}, and entities are not read")

    def declaration(name: str, *rest: object) -> None:
        raise refusal(parser, f"it declares {name[:80]} in its DOCTYPE, which is not read")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.EntityDeclHandler = entity
    parser.ElementDeclHandler = declaration
    parser.AttlistDeclHandler = declaration
    parser.NotationDeclHandler = declaration
    return parser
