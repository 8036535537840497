"""YAML and JSON with the place of every node, read within bounds.

A file of 1 MiB can stand for terabytes, or be nested deeply enough to end the process that reads it. So the
nodes are put together here from the parser's events, with a stack and a count, and an alias counts as much
as what it stands for.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from .findings import ERROR, Finding, Place

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 50_000

_TAG = "tag:yaml.org,2002:"
# libyaml, as in the agent's Ruby; the fallback knows the same YAML and is slower.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_resolver = yaml.resolver.Resolver()


SAVE_AS_UTF_8 = "Save the file as UTF-8. (PowerShell's > writes UTF-16; Out-File -Encoding utf8 does not.)"


class DocumentError(Exception):
    """The file cannot be read as YAML or JSON, or is too much to read."""

    def __init__(self, code: str, message: str, mend: str, at: Place | None = None) -> None:
        super().__init__(message)
        at = at or Place()
        self.finding = Finding(ERROR, code, at.line, at.column, message, mend)


@dataclass(eq=False)
class Node:
    """A part of a document, with where it begins."""

    line: int
    column: int


@dataclass(eq=False)
class Scalar(Node):
    """A text, number or the like; `tag` is YAML's opinion of which."""

    text: str
    tag: str
    plain: bool  # written without quotes, and not as a block

    @property
    def value(self) -> Any:
        """The value in Python, by YAML 1.1: an unquoted 0644 is the number 420."""
        if self.tag in ("str", "value"):
            return self.text
        try:
            # A constructor keeps state of the document it reads, so each value has its own.
            node = yaml.ScalarNode(_TAG + self.tag, self.text)
            return yaml.constructor.SafeConstructor().construct_object(node)
        except (ValueError, yaml.YAMLError):
            return self.text  # 2024-13-99, or a number of thousands of digits


@dataclass(eq=False)
class Sequence(Node):
    """A list."""

    items: list[Node] = field(default_factory=list)


@dataclass(eq=False)
class Mapping(Node):
    """Keys and values, as often as they are written."""

    pairs: list[tuple[Node, Node]] = field(default_factory=list)

    def get(self, key: str) -> Node | None:
        """The value of a key; of several, the last wins, as in every reader of YAML."""
        found = None
        for name, value in self.pairs:
            if key_text(name) == key:
                found = value
        return found


@dataclass
class Document:
    """The first document of a file."""

    root: Node | None
    anchors: list[tuple[str, Place]] = field(default_factory=list)
    second: Place | None = None  # where a second document begins


def key_text(node: Node) -> str:
    """A key as it is written; a key that is a list or a mapping has no text."""
    return node.text if isinstance(node, Scalar) else ""


def is_null(node: Node | None) -> bool:
    return node is None or (isinstance(node, Scalar) and node.tag == "null")


def plain(node: Node | None) -> Any:
    """A node as plain values, for showing it."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    if isinstance(node, Mapping):
        return {key_text(key): plain(value) for key, value in node.pairs}
    return None


def walk(node: Node | None) -> Iterator[Node]:
    """Every node once, in the order of the file."""
    waiting, seen = [node], set()
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        if isinstance(found, Sequence):
            waiting.extend(reversed(found.items))
        elif isinstance(found, Mapping):
            waiting.extend(node for pair in reversed(found.pairs) for node in reversed(pair))


def decode(data: bytes) -> str:
    """The text of a file. Raises DocumentError where it is too large, or neither UTF-8 nor marked UTF-16."""
    check_size(len(data))
    if is_utf_16(data):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        at = Place(before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
        raise DocumentError(
            "not-utf-8",
            f"This is not UTF-8: the byte 0x{data[error.start]:02x} cannot stand here.",
            SAVE_AS_UTF_8,
            at,
        ) from error


def is_utf_16(data: bytes) -> bool:
    """Whether a file says that it is UTF-16: libyaml reads that, the agent does not."""
    return data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise DocumentError(
            "too-large",
            f"The file is larger than {MAX_BYTES} bytes, so it was not read.",
            "Name the file that was meant: real ones have a few kilobytes.",
        )


def load(text: str) -> Document:
    """Read the first document of a text, YAML or JSON. Raises DocumentError, which says where."""
    check_size(len(text.encode(errors="surrogatepass")))
    text = text.removeprefix("\ufeff")
    try:
        return _Composer(text).compose()
    except yaml.YAMLError as error:
        raise json_problem(text) or _yaml_problem(error, text) from error
    except ValueError as error:  # a lone surrogate cannot be handed to libyaml
        raise DocumentError(
            "not-utf-8", f"The text cannot be read: {error}", "Save the file as UTF-8."
        ) from None


def json_problem(text: str) -> DocumentError | None:
    """What JSON's own reader says of a text that begins as JSON does."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return DocumentError(
            "not-json",
            f"This is not JSON: {error.msg}.",
            "Correct the JSON there: keys and texts in double quotes, no comma after the last item.",
            Place(error.lineno, error.colno),
        )
    except (RecursionError, ValueError):
        return None
    return None


class _Composer:
    """Puts nodes together from the parser's events."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._document = Document(root=None)
        # Open lists and mappings; of a mapping also the key that waits for its value.
        self._open: list[Sequence | Mapping] = []
        self._keys: list[Node | None] = []
        self._anchored: dict[str, Node] = {}
        self._anchors: list[str | None] = []  # of what is open
        self._weights: dict[int, int] = {}
        self._total = 0

    def compose(self) -> Document:
        started = False
        for event in yaml.parse(self._text, Loader=_Loader):
            if isinstance(event, yaml.DocumentStartEvent):
                if started:
                    self._document.second = _place(event)
                    break
                started = True
            elif isinstance(event, yaml.ScalarEvent):
                self._add(self._scalar(event), event.anchor, 1)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._begin(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
        return self._document

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        style: str | None = event.style
        is_plain = style in (None, "")
        tag = event.tag
        if tag is None or tag == "!":
            tag = _resolver.resolve(yaml.ScalarNode, event.value, (event.implicit[0], False))
        at = _place(event)
        return Scalar(at.line, at.column, event.value, str(tag).removeprefix(_TAG), is_plain)

    def _begin(self, event: Any) -> None:
        at = _place(event)
        if len(self._open) >= MAX_DEPTH:
            raise DocumentError(
                "too-deep",
                f"Lists and mappings are nested more than {MAX_DEPTH} deep here, so the rest was not read.",
                "Write it flat: real files are nested fewer than 10 deep.",
                at,
            )
        tag = event.tag if event.tag not in (None, "!") else ""
        is_sequence = isinstance(event, yaml.SequenceStartEvent)
        if tag and tag.removeprefix(_TAG) not in ("seq", "map"):
            raise _unknown_tag(tag, at)
        node = Sequence(at.line, at.column) if is_sequence else Mapping(at.line, at.column)
        self._open.append(node)
        self._keys.append(None)
        self._anchors.append(event.anchor)
        self._weights[id(node)] = 1
        self._note_anchor(event.anchor, at)

    def _end(self) -> None:
        node = self._open.pop()
        self._keys.pop()
        anchor = self._anchors.pop()
        if anchor:
            self._anchored[anchor] = node
        self._place_in_parent(node, self._weights[id(node)])

    def _alias(self, event: yaml.AliasEvent) -> None:
        at = _place(event)
        anchor = str(event.anchor)
        if anchor in self._anchors:
            raise DocumentError(
                "alias-loop",
                f"The alias *{anchor} stands inside of what it stands for.",
                "Write out what was meant; nothing can hold itself.",
                at,
            )
        target = self._anchored.get(anchor)
        if target is None:
            raise DocumentError(
                "not-yaml",
                f"The alias *{anchor} has no anchor &{anchor} before it.",
                f"Write out the value, in quotes if it is the text '*{anchor}'.",
                at,
            )
        self._count(self._weights[id(target)], at)
        self._place_in_parent(target, self._weights[id(target)])

    def _add(self, node: Scalar, anchor: str | None, weight: int) -> None:
        if node.tag not in _SCALAR_TAGS:
            raise _unknown_tag(node.tag, Place(node.line, node.column))
        self._weights[id(node)] = weight
        self._note_anchor(anchor, Place(node.line, node.column))
        if anchor:
            self._anchored[anchor] = node
        self._place_in_parent(node, weight)

    def _note_anchor(self, anchor: str | None, at: Place) -> None:
        self._count(1, at)
        if anchor:
            self._document.anchors.append((anchor, at))

    def _count(self, weight: int, at: Place) -> None:
        self._total += weight
        if self._total > MAX_NODES:
            raise DocumentError(
                "too-many",
                f"The file stands for more than {MAX_NODES} values, aliases counted as what they stand for; "
                "the rest was not read.",
                "Write out what is needed, without aliases; real files hold a few hundred values.",
                at,
            )

    def _place_in_parent(self, node: Node, weight: int) -> None:
        if not self._open:
            self._document.root = node
            return
        parent = self._open[-1]
        self._weights[id(parent)] += weight
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif self._keys[-1] is None:
            self._keys[-1] = node
        else:
            parent.pairs.append((self._keys[-1], node))
            self._keys[-1] = None


_SCALAR_TAGS = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "binary")


def _unknown_tag(tag: str, at: Place) -> DocumentError:
    return DocumentError(
        "unknown-tag",
        f"The tag {tag} is not loaded.",
        "Take the tag away, or put the value in quotes.",
        at,
    )


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _yaml_problem(error: yaml.YAMLError, text: str) -> DocumentError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    if mark is not None:
        at = Place(mark.line + 1, mark.column + 1)
    else:  # the reader's own errors know the position alone
        before = text[: getattr(error, "position", 0) or 0]
        at = Place(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
    line = (text.splitlines()[at.line - 1 : at.line] or [""])[0]
    return DocumentError(
        "not-yaml", f"This is not YAML: {problem}.", _yaml_mend(problem, line, at.column), at
    )


def _yaml_mend(problem: str, line: str, column: int) -> str:
    character = line[column - 1 : column]
    if character == "\t" or "\t" in line[: len(line) - len(line.lstrip())]:
        return "Indent with spaces: YAML takes no tabs there."
    if "mapping values are not allowed" in problem:
        return "Put a value with ': ' in it in quotes; give a key either a value or lines below it, not both."
    if "cannot start any token" in problem:
        return f"Put the value in quotes: nothing begins with {character or 'that'!r}."
    if "expected" in problem:
        return "Check the indentation from the line above on: what belongs together begins in one column."
    if "control characters" in problem or "special characters" in problem:
        return "Remove the control character."
    return "Check the quotes and the indentation there."
