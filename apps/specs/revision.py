"""What an appspec names in its revision, where the revision's folder is at hand."""

from __future__ import annotations

from pathlib import Path

from .appspec_advice import UNSCRIPTABLE
from .document import Document, Mapping, Node, Sequence, is_null
from .findings import Findings, quoted
from .ruby import text_of


def check_revision(document: Document, root: Path, findings: Findings) -> None:
    """Find what is missing in the unpacked revision at `root`, and scripts that cannot start."""
    if not isinstance(document.root, Mapping):
        return
    hooks, files = document.root.get("hooks"), document.root.get("files")
    for key, scripts in hooks.pairs if isinstance(hooks, Mapping) else []:
        if text_of(key) not in UNSCRIPTABLE:
            for node in _values(scripts, "location"):
                _script(node, root, text_of(document.root.get("os")), findings)
    for node in _values(files, "source"):
        if not (root / text_of(node).replace("\\", "/").lstrip("/")).exists():
            findings.error(
                "source-missing",
                node,
                f"The source {quoted(text_of(node))} is not in {root}: Install fails.",
                "Add it to the revision, or correct its name.",
            )


def _values(items: Node | None, key: str) -> list[Node]:
    maps = [item for item in items.items if isinstance(item, Mapping)] if isinstance(items, Sequence) else []
    values = [item.get(key) for item in maps]
    return [value for value in values if value is not None and not is_null(value)]


def _script(node: Node, root: Path, os: str, findings: Findings) -> None:
    location = text_of(node).strip()
    path = root / location.replace("\\", "/").lstrip("/")
    if not location:
        return
    if not path.is_file():
        findings.error(
            "script-missing",
            node,
            f"The script {quoted(location)} is not in {root}: its event fails with ScriptMissing.",
            "Add it to the revision, or correct its name.",
        )
        return
    if os == "windows":
        return
    with path.open("rb") as file:
        first = file.readline(256)
    if first.startswith(b"#!") and first.endswith(b"\r\n"):
        findings.error(
            "script-crlf",
            node,
            f"The first line of {quoted(location)} ends with CR LF, so Linux looks for an interpreter of "
            "that name.",
            "Save the script with LF alone, and say so in .gitattributes: *.sh text eol=lf",
        )
    elif not first.startswith((b"#!", b"\x7fELF")):
        findings.warn(
            "script-no-shebang",
            node,
            f"{quoted(location)} does not begin with #!, so the shell of the agent's account runs it.",
            "Begin it with: #!/usr/bin/env bash",
        )
