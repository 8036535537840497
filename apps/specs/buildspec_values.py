"""The forms of a buildspec's values: keys, texts and lists, with CodeBuild's own leniency."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .document import Mapping, Node, Scalar, Sequence, is_null, key_text
from .findings import Findings, closest, quoted

Keys = dict[str, Node]
FORM = "Write a list below it:"


def key_values(node: Node, *, keys: bool = False) -> Keys:
    """The values of a mapping by key, or the keys' own nodes. Of several, the last wins."""
    found: Keys = {}
    if not isinstance(node, Mapping):
        return found
    for key, value in node.pairs:
        if isinstance(key, Scalar) and key.tag == "merge":
            for source in value.items if isinstance(value, Sequence) else [value]:
                # Of several merged mappings the first wins, and what stands here wins over all.
                found = key_values(source, keys=keys) | found
    for key, value in node.pairs:
        if not (isinstance(key, Scalar) and key.tag == "merge"):
            found[key_text(key)] = key if keys else value
    return found


def read_keys(
    node: Node,
    place: str,
    known: Iterable[str] | None,
    findings: Findings,
    *,
    what: str = "key",
    special: dict[str, str] | None = None,
) -> Keys:
    """The values of a mapping by key, those that are not known left out; an empty value counts as no keys."""
    if is_null(node):
        return {}
    if not isinstance(node, Mapping):
        findings.error(
            "not-a-mapping",
            node,
            f"{place} must be a mapping of keys to values.",
            f"Write keys below {place}" + (f": {', '.join(known)}" if known else ", each with its value"),
        )
        return {}
    values, places = key_values(node), key_values(node, keys=True)
    for word in list(values):
        if not isinstance(places[word], Scalar):
            findings.error(
                "key-form", places[word], f"{place} has a key that is not text.", "Write a plain key."
            )
            del values[word]
        elif known is not None and word not in known:
            meant = closest(word, known)
            mend = (special or {}).get(word) or (
                f"Did you mean {meant}?" if meant else f"Remove it; known here are {', '.join(known)}."
            )
            findings.error(
                "unknown-phase" if what == "phase" else "unknown-key",
                places[word],
                f"unknown {what} {word} in {place}.",
                mend,
            )
            del values[word]
    return values


def read_text(node: Node, place: str, findings: Findings) -> str:
    """A scalar as it is written: `true` and `010` are text, as CodeBuild takes them."""
    if isinstance(node, Scalar):
        return "" if is_null(node) else node.text
    findings.error(
        "not-a-text",
        node,
        f"Expected {place} to be of string type: found subkeys instead.",
        "Write one text there, in quotes if it holds ': '.",
    )
    return ""


def read_list(node: Node, place: str, findings: Findings, *, commands: bool = False) -> Iterator[str]:
    """A list's texts, empty ones left out; a single text counts as a list of one."""
    items: list[Node] = []
    if isinstance(node, Sequence):
        items = node.items
    elif isinstance(node, Scalar) and not is_null(node):
        items = [node]
        findings.warn(
            "commands-as-text" if commands else "files-as-text",
            node,
            f"{place} is a text where a list is documented; CodeBuild takes it for a list of one.",
            f"{FORM} - {quoted(node.text)}",
        )
    elif isinstance(node, Mapping):
        findings.error(
            "not-a-list", node, f"Expected {place} to be a list.", f"{FORM} each item behind a hyphen."
        )
    for index, item in enumerate(items):
        if not isinstance(item, Scalar):
            _not_a_text(item, f"{place}[{index}]", findings, commands=commands)
        elif is_null(item):
            findings.warn(
                "empty-item", item, f"{place}[{index}] is empty and is passed over.", "Remove the hyphen."
            )
        else:
            yield item.text


def _not_a_text(item: Node, place: str, findings: Findings, *, commands: bool) -> None:
    message, mend = f"{place} is a list inside of the list.", "Write one hyphen."
    if isinstance(item, Mapping):
        key = key_text(item.pairs[0][0]) if item.pairs else ""
        message = f"{place} is a mapping: ': ' after {quoted(key, 40)} makes a key of what stands before it."
        mend = "Put the whole command in single quotes, or write it below '- |'."
    findings.error(
        "command-is-mapping" if commands else "item-is-mapping",
        item,
        message,
        mend,
        # The usual cause is an unquoted colon and space in a command.
        words=f"Expected {place} to be of string type: found subkeys instead at line {item.line}, "
        f"value of the key tag on line {max(item.line - 1, 1)} might be empty",
    )


def on_or_off(keys: Keys, name: str, findings: Findings) -> bool:
    """Whether a switch is on: yes and true are, in any case of letters."""
    if is_null(keys.get(name)):
        return False
    text = read_text(keys[name], name, findings)
    if text.casefold() not in ("yes", "no", "true", "false"):
        findings.warn(
            "switch", keys[name], f"{name} is {quoted(text)}, which counts as no.", f"Write: {name}: yes"
        )
    return text.casefold() in ("yes", "true")
