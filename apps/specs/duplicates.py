"""What every reader of YAML passes over: a key that stands twice, and a second document."""

from __future__ import annotations

from .document import Document, Mapping, Node, Scalar, Sequence
from .findings import Findings, quoted


def note_second_document(document: Document, findings: Findings) -> None:
    if document.second:
        findings.warn(
            "second-document",
            document.second,
            "A second YAML document begins here; only the first is read.",
            "Remove the line with --- or ... and write one document.",
        )


def note_duplicates(root: Node | None, findings: Findings) -> None:
    """Of a key that stands twice, the last wins, and the first is lost without a word."""
    waiting = [root]
    seen = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Sequence):
            waiting.extend(node.items)
        if not isinstance(node, Mapping):
            continue
        first: dict[str, Node] = {}
        for key, value in node.pairs:
            waiting.append(value)
            if not isinstance(key, Scalar) or key.tag == "merge":
                continue
            if before := first.get(key.text):
                findings.warn(
                    "duplicate-key",
                    key,
                    f"{quoted(key.text)} stands here again: this one counts, and the one in line "
                    f"{before.line} "
                    "is ignored.",
                    "Keep one of them, or put the contents of both below one.",
                )
            first[key.text] = key
