"""Lint a file as a whole: read it, look at it in every way there is, and tell of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .appspec import read_appspec
from .appspec_advice import advise
from .appspec_resources import check_resources, is_for_resources
from .buildspec import read_buildspec
from .document import SAVE_AS_UTF_8, Document, DocumentError, decode, is_utf_16, json_problem, load
from .findings import ERROR, WARNING, Finding, Findings, Place
from .revision import check_revision


@dataclass(frozen=True)
class Report:
    """What was found in one file, in the order of its lines."""

    file: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.of(ERROR)

    def of(self, severity: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == severity]

    def as_json(self) -> str:
        """One line; the same keys always."""
        document = {
            "file": self.file,
            "ok": self.ok,
            "errors": [finding.as_json() for finding in self.of(ERROR)],
            "warnings": [finding.as_json() for finding in self.of(WARNING)],
        }
        return json.dumps(document)

    def as_text(self) -> list[str]:
        return [finding.as_text(self.file) for finding in self.findings]


def lint_appspec(data: bytes, name: str = "-", root: Path | None = None) -> Report:
    """Lint the content of an appspec; with `root`, the folder of its revision, also what it names there."""
    findings = Findings()
    if document := _load(data, name, findings):
        if is_for_resources(document):
            check_resources(document, findings)
        else:
            if is_utf_16(data):
                findings.error(
                    "not-utf-8", Place(), "The file is UTF-16, and the agent reads UTF-8.", SAVE_AS_UTF_8
                )
            _, found = read_appspec(document)
            findings.extend(found)
            advise(document, name, findings, deploying=root is not None)
            if root:
                check_revision(document, root, findings)
    return _report(name, findings)


def lint_buildspec(data: bytes, name: str = "-") -> Report:
    """Lint the content of a buildspec."""
    findings = Findings()
    if document := _load(data, name, findings):
        _, found = read_buildspec(document)
        findings.extend(found)
    return _report(name, findings)


def unreadable(name: str, reason: str) -> Report:
    """The report on a file that cannot be opened."""
    findings = Findings()
    findings.error("unreadable", Place(), f"The file cannot be read: {reason}.", "Check its name and rights.")
    return _report(name, findings)


def _load(data: bytes, name: str, findings: Findings) -> Document | None:
    try:
        text = decode(data)
        document = load(text)
    except DocumentError as error:
        findings.extend([error.finding])
        return None
    if is_utf_16(data):
        findings.warn("utf-16", Place(), "The file is UTF-16; AWS documents none but UTF-8.", SAVE_AS_UTF_8)
    if name.casefold().endswith(".json") and (problem := json_problem(text)):
        found = problem.finding
        findings.warn(
            "json-as-yaml",
            Place(found.line, found.column),
            f"{found.message[:-1]}; it was read as YAML.",
            found.mend,
        )
    return document


def _report(name: str, findings: Findings) -> Report:
    return Report(name, tuple(sorted(findings, key=lambda each: (each.line, each.column, each.severity))))
