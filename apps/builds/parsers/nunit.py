"""What NUnit 2 and NUnit 3 have in common: cases in suites within suites, and how they tell of failures."""

import re

from apps.builds.parsers.case import DETAILS_LIMIT, NAME_LIMIT, Case, Outcome, first_line
from apps.builds.parsers.xml import XmlReader

_REASONS = frozenset({"failure", "reason"})
_TEXTS = frozenset({"message", "stack-trace"})


class NUnitReader(XmlReader[Case]):
    """Reads ``test-case`` elements; a subclass makes the case, and names the suite, of their attributes."""

    root = ""
    title = ""

    def __init__(self) -> None:
        super().__init__()
        self.suite = ""  # the outermost that has a name
        self.suite_depth = 0
        self.open: Case | None = None
        self.case_depth = 0
        self.reason_depth = 0
        self.declared = 0
        self.listed = False

    def case(self, attributes: dict[str, str]) -> Case:
        """The case that a ``test-case`` tells of, in ``self.suite``."""
        raise NotImplementedError

    def suite_name(self, attributes: dict[str, str]) -> str:
        """The name of a ``test-suite``."""
        raise NotImplementedError

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self.depth == 1:
            self.begin(tag, attributes)
        elif tag == "test-suite":
            if not self.suite:
                self.suite, self.suite_depth = self.suite_name(attributes), self.depth
        elif tag == "test-case":
            if self.open is not None:
                raise self.refusal("a test-case lies inside another")
            self.open, self.case_depth, self.listed = self.case(attributes), self.depth, True
        elif self.open is not None:
            if tag in _REASONS and self.depth == self.case_depth + 1:
                self.reason_depth = self.depth
            elif tag in _TEXTS and self.reason_depth and self.depth == self.reason_depth + 1:
                self.collect(DETAILS_LIMIT)

    def end(self, tag: str) -> None:
        if self.open is None:
            if tag == "test-suite" and self.depth < self.suite_depth:
                self.suite, self.suite_depth = "", 0
        elif self.depth < self.case_depth:
            self.found.append(self.open)
            self.open = None
        elif self.reason_depth and self.depth == self.reason_depth and tag in _TEXTS:
            self.tell(self.open, tag, self.collected())
        elif self.depth < self.reason_depth:
            self.reason_depth = 0

    def finish(self) -> None:
        if self.declared and not self.listed:
            raise self.refusal(f"it declares {self.declared:,} tests and lists none")

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag != self.root:
            raise self.refusal(f"not {self.title}: its root is <{tag[:80]}>, not <{self.root}>")
        if re.fullmatch(r"[0-9]{1,9}", total := attributes.get("total", "")):
            self.declared = int(total)

    def tell(self, case: Case, tag: str, text: str) -> None:
        """Keep a message or a stack trace; of a test that passed, as by ``Assert.Pass``, only the message."""
        if tag == "message":
            case.message = first_line(text)
            case.details = text if case.message != text else ""
        elif case.outcome is not Outcome.PASSED:
            case.message = case.message or first_line(text)
            case.details = f"{case.details}\n{text}".strip()[:DETAILS_LIMIT]


def file_name(path: str) -> str:
    """The last part of a path of Windows or Unix: build machines keep their work in different folders."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1][:NAME_LIMIT]
