"""Values as the agent's Ruby takes them."""

from __future__ import annotations

import re
from typing import Any

from .document import Mapping, Node, Scalar, Sequence, is_null, plain
from .findings import Findings


def ruby(value: Any) -> str:
    """A value as Ruby puts it into a text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def text_of(node: Node | None) -> str:
    """A node as Ruby puts it into a text."""
    return ruby(plain(node))


def number_of(node: Node | None) -> Any:
    """The value of a node; Ruby takes 3,600 for a number and 0,0 for zero, unlike Python."""
    if isinstance(node, Scalar) and node.plain and re.fullmatch(r"[-+]?(0[0-7_,]+|[1-9][0-9_,]*)", node.text):
        digits = re.sub("[_,]", "", node.text)
        return int(digits[:20], 8 if re.match("[-+]?0", digits) else 10)
    return plain(node)


def is_nothing(node: Node | None) -> bool:
    """What Ruby takes for absent: nil and false."""
    return is_null(node) or plain(node) is False


def is_empty(node: Node) -> bool:
    """Whether it is {}, which Ruby iterates over as over an empty list."""
    return isinstance(node, Mapping) and not node.pairs


def read_items(node: Node | None, section: str, form: str, findings: Findings) -> list[Mapping]:
    """The maps of a list of maps; whatever else is there is refused."""
    if node is None or is_nothing(node) or is_empty(node):
        return []
    mend = f"Write a list of maps below {section}: {form}"
    if not isinstance(node, Sequence):
        findings.error("list-form", node, f"{section} must be a list of maps.", mend)
        return []
    maps = []
    for item in node.items:
        if isinstance(item, Mapping):
            maps.append(item)
        else:
            findings.error("list-form", item, f"{section} must be a list of maps; this is no map.", mend)
    return maps
