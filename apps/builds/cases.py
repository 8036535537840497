"""What makes two results the same test, and what is kept of a report's cases while they are read."""

import hashlib
import struct
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple, cast

import orjson

from apps.builds.outcomes import CODES, FLAKY, LAYOUT, LONGEST, SIZE, UNIT_NS
from apps.builds.parsers.case import Case, Outcome
from apps.builds.parsers.errors import ReportRefused

CASE_LIMIT = 1_000_000  # cases of one report
MESSAGE_LIMIT = 2000  # characters kept of message and details together; the raw file has them whole
MEMORY = 1 << 20  # bytes of names, and of messages, that are not yet put on disk

_LENGTH = struct.Struct(">I")
_ID = struct.Struct(">q")
_NO_CASE = bytes(SIZE)


def case_id(*, service: int, group: str, case: Case, ordinal: int) -> int:
    """A signed 64-bit BLAKE2b of what identifies a test, which fits PostgreSQL's bigint.

    Each part is preceded by its length, so that no two different tests look the same ("ab" + "c" and
    "a" + "bc"). ``ordinal`` counts cases of one report with the same suite, class and name, from 0.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (str(service), group, case.suite, case.class_name, case.name, str(ordinal)):
        digest.update(_part(part))
    identity: int = _ID.unpack(digest.digest())[0]
    return identity


class Named(NamedTuple):
    """A case by name. ``position`` is where its outcome stands; provisional where it is new."""

    id: int
    position: int
    new: bool
    ordinal: int
    suite: str
    class_name: str
    name: str


class Kept(NamedTuple):
    """What is kept of a case that did not pass."""

    id: int
    outcome: str
    duration_ns: int
    message: str


class CaseBook:
    """Takes in the cases of one report as they are read, in little memory.

    ``known`` has the positions of the cases that the service's report group has so far. A case that is not
    among them gets the next free position, which is provisional: another report may come first. Names are
    kept only of new cases and of those that did not pass, and they and the messages go to disk.
    """

    def __init__(self, *, service: int, group: str, known: dict[int, int] | None = None) -> None:
        self.service, self.group = service, group
        self.count = 0
        self.duration_ns = 0
        self.not_passed: Counter[Outcome] = Counter()
        self.positions = {} if known is None else known
        self.known = max(self.positions.values(), default=-1) + 1  # positions taken before
        self.new = array("q")  # identities in the order of their provisional positions
        self.outcomes = bytearray(self.known * SIZE)
        self._repeated: dict[int, int] = {}  # how often the same name came again
        self._names, self._messages = _Spool(), _Spool()
        self._prefix = hashlib.blake2b(_part(str(service)) + _part(group), digest_size=8)

    def counts(self) -> Counter[Outcome]:
        """How many cases ended in which way."""
        passed = self.count - self.not_passed.total()
        return self.not_passed + Counter({Outcome.PASSED: passed})

    def take(self, cases: Iterable[Case]) -> None:
        """Take in cases. What ``cases`` raises comes through, and those before it have been taken in.

        Raises ReportRefused for more than CASE_LIMIT of them, and where two tests have one identity.
        """
        # A hundred thousand times in a second: hence names in place of attributes, and no calls.
        positions, outcomes, prefix = self.positions, self.outcomes, self._prefix
        pack, place, passed, first = _LENGTH.pack, LAYOUT.pack_into, Outcome.PASSED, _part("0")
        find, unpack = positions.get, _ID.unpack
        number, limit = self.count, CASE_LIMIT
        duration = self.duration_ns
        suite = class_name = None
        of_class = prefix
        try:
            for case in cases:
                if number >= limit:
                    raise ReportRefused(f"it has more than {limit:,} test cases")
                if case.class_name != class_name or case.suite != suite:
                    suite, class_name = case.suite, case.class_name
                    of_class = prefix.copy()
                    of_class.update(_part(suite) + _part(class_name))
                hashed = of_class.copy()
                try:
                    name = case.name.encode()
                except UnicodeEncodeError:
                    name = case.name.encode(errors="replace")
                hashed.update(pack(len(name)) + name + first)
                identity = unpack(hashed.digest())[0]
                position = find(identity)
                ordinal = 0
                is_new = position is None
                if position is None:
                    position = self._add(identity)
                elif outcomes[position * SIZE]:
                    identity, position, ordinal, is_new = self._again(identity, case)
                code = 1
                outcome = case.outcome
                if is_new or outcome is not passed:
                    code = CODES[outcome]
                    self._keep(Named(identity, position, is_new, ordinal, *_names(case)), case)
                if case.attempts and case.flaky:
                    code |= FLAKY
                nanoseconds = case.duration_ns
                units = (nanoseconds + UNIT_NS // 2) // UNIT_NS
                place(outcomes, position * SIZE, code, units if units < LONGEST else LONGEST)
                duration += nanoseconds
                number += 1
        finally:
            self.count, self.duration_ns = number, duration

    def named(self) -> Iterator[Named]:
        """The cases that are new, and those that did not pass, in the order in which they were read."""
        return (Named(*each) for each in self._names)

    def kept(self) -> Iterator[Kept]:
        """What is kept of the cases that did not pass, in the order in which they were read."""
        return (Kept(*each) for each in self._messages)

    def _add(self, identity: int) -> int:
        position = self.known + len(self.new)
        self.new.append(identity)
        self.positions[identity] = position
        self.outcomes += _NO_CASE
        return position

    def _again(self, identity: int, case: Case) -> tuple[int, int, int, bool]:
        """Identity, position and ordinal of a case whose name was there before; True if it is new."""
        ordinal = self._repeated[identity] = self._repeated.get(identity, 0) + 1
        own = case_id(service=self.service, group=self.group, case=case, ordinal=ordinal)
        position = self.positions.get(own)
        if position is None:
            return own, self._add(own), ordinal, True
        if self.outcomes[position * SIZE]:
            # The ordinals differ, so this is a collision of 64-bit hashes.
            raise ReportRefused(f"another test has the identity of {case.class_name} {case.name}")
        return own, position, ordinal, False

    def _keep(self, named: Named, case: Case) -> None:
        self._names.add(named)
        if case.outcome is not Outcome.PASSED:
            self.not_passed[case.outcome] += 1
            message = storable(case.text[:MESSAGE_LIMIT])
            self._messages.add(Kept(named.id, case.outcome.value, case.duration_ns, message))


class _Spool:
    """Rows in the order in which they were added, on disk once they are many."""

    def __init__(self) -> None:
        self._file = cast("IO[bytes]", tempfile.SpooledTemporaryFile(max_size=MEMORY))  # noqa: SIM115 - as long as the book

    def add(self, row: tuple[object, ...]) -> None:
        # A plain tuple, since orjson knows no named ones.
        self._file.write(orjson.dumps(tuple(row), option=orjson.OPT_APPEND_NEWLINE))

    def __iter__(self) -> Iterator[list[Any]]:
        self._file.seek(0)
        return map(orjson.loads, self._file)


def storable(text: str) -> str:
    """A text as PostgreSQL can keep it: without NUL, and without halves of surrogate pairs."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if text.isascii() else text.encode(errors="replace").decode()


def _names(case: Case) -> tuple[str, str, str]:
    return storable(case.suite), storable(case.class_name), storable(case.name)


def _part(text: str) -> bytes:
    data = text.encode(errors="replace")
    return _LENGTH.pack(len(data)) + data
