"""What makes two results the same test, and what is kept of a report's cases while they are read."""

import hashlib
import struct
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, Any, NamedTuple, cast

import orjson

from apps.builds.outcomes import CODES, FLAKY, LONGEST, UNIT_NS, packed
from apps.builds.parsers.case import Case, Outcome, Passed, as_case
from apps.builds.parsers.errors import ReportRefused

CASE_LIMIT = 1_000_000  # cases of one report
MESSAGE_LIMIT = 2000  # characters kept of message and details together; the raw file has them whole
MEMORY = 1 << 20  # bytes of names, and of messages, that are not yet put on disk
SPOOLED = 200  # names, and messages, that are put there together

_LENGTH = struct.Struct(">I")
_ID = struct.Struct(">q")
_LENGTHS = [_LENGTH.pack(length) for length in range(256)]  # of nearly all names
_PASSED = CODES[Outcome.PASSED]


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

    ``identities`` and ``positions`` are those of the cases that the service's report group has so far. A case
    that is not among them gets the next free position, which is provisional: another report may come first.
    Names are kept only of new cases and of those that did not pass, and they and the messages go to disk.
    """

    def __init__(
        self, *, service: int, group: str, identities: Sequence[int] = (), positions: Sequence[int] = ()
    ) -> None:
        self.service, self.group = service, group
        self.count = 0
        self.duration_ns = 0
        self.not_passed: Counter[Outcome] = Counter()
        self.positions = dict(zip(identities, positions, strict=True))
        self.known = max(positions, default=-1) + 1  # positions taken before
        self.new = array("q")  # identities in the order of their provisional positions
        self._in_order = identities, positions
        # By position, as apps.builds.outcomes describes them.
        self._codes = bytearray(self.known)
        self._durations = array("I", bytes(self.known * 4))
        self._repeated: dict[int, int] = {}  # how often the same name came again
        self._names, self._messages = _Spool(), _Spool()
        self._prefix = hashlib.blake2b(_part(str(service)) + _part(group), digest_size=8)

    @property
    def outcomes(self) -> bytearray:
        """How every case ended, by position."""
        return packed(self._codes, self._durations)

    def counts(self) -> Counter[Outcome]:
        """How many cases ended in which way."""
        passed = self.count - self.not_passed.total()
        return self.not_passed + Counter({Outcome.PASSED: passed})

    def take(self, cases: Iterable[Case | Passed]) -> None:
        """Take in cases. What ``cases`` raises comes through, and those before it have been taken in.

        Raises ReportRefused for more than CASE_LIMIT of them, and where two tests have one identity.
        """
        # A hundred thousand times in a tenth of a second: hence names in place of attributes, and what is
        # rare in a method of its own.
        find, codes, durations = self.positions.get, self._codes, self._durations
        unpack, lengths, first, half = _ID.unpack, _LENGTHS, _part("0"), UNIT_NS // 2
        # Reports of a group mostly have one order, and to look at the next one is quicker than to find it.
        identities, positions = self._in_order
        following, end = 0, len(identities)
        count, total_ns = self.count, self.duration_ns
        of_suite = of_class = None
        start = self._prefix.copy
        position: int | None
        cases = iter(cases)
        try:
            for found in islice(cases, CASE_LIMIT - count):
                if isinstance(found, tuple):
                    suite, class_name, name, duration_ns = found
                    passed = True
                else:
                    suite, class_name, name = found.suite, found.class_name, found.name
                    duration_ns = found.duration_ns
                    passed = found.outcome is Outcome.PASSED and not found.attempts
                if class_name != of_class or suite != of_suite:
                    of_suite, of_class = suite, class_name
                    hashed = self._prefix.copy()
                    hashed.update(_part(suite) + _part(class_name))
                    start = hashed.copy
                hashed = start()
                try:
                    encoded = name.encode()
                except UnicodeEncodeError:
                    encoded = name.encode(errors="replace")
                length = len(encoded)
                hashed.update((lengths[length] if length < 256 else _LENGTH.pack(length)) + encoded + first)
                (identity,) = unpack(hashed.digest())
                if following < end and identities[following] == identity:
                    position = positions[following]
                    following += 1
                elif (position := find(identity)) is not None:
                    following = position + 1
                if passed and position is not None and not codes[position]:
                    codes[position] = _PASSED
                else:
                    position, codes[position] = self._take_other(as_case(found), identity, position)
                try:
                    durations[position] = (duration_ns + half) // UNIT_NS
                except OverflowError:
                    durations[position] = LONGEST
                total_ns += duration_ns
                count += 1
        finally:
            self.count, self.duration_ns = count, total_ns
        if next(cases, None) is not None:
            raise ReportRefused(f"it has more than {CASE_LIMIT:,} test cases")

    def _take_other(self, case: Case, identity: int, position: int | None) -> tuple[int, int]:
        """Position and code of a case that is new, did not pass, ran several times, or comes again."""
        ordinal, is_new = 0, position is None
        if position is None:
            position = self._add(identity)
        elif self._codes[position]:
            identity, position, ordinal, is_new = self._again(identity, case)
        outcome = case.outcome
        if is_new or outcome is not Outcome.PASSED:
            names = storable(case.suite), storable(case.class_name), storable(case.name)
            self._names.add((identity, position, is_new, ordinal, *names))
        if outcome is not Outcome.PASSED:
            self.not_passed[outcome] += 1
            message = storable(case.text[:MESSAGE_LIMIT])
            self._messages.add((identity, outcome.value, case.duration_ns, message))
        flaky = FLAKY if case.attempts and case.flaky else 0
        return position, CODES[outcome] | flaky

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
        self._codes.append(0)
        self._durations.append(0)
        return position

    def _again(self, identity: int, case: Case) -> tuple[int, int, int, bool]:
        """Identity, position and ordinal of a case whose name was there before; True if it is new."""
        ordinal = self._repeated[identity] = self._repeated.get(identity, 0) + 1
        own = case_id(service=self.service, group=self.group, case=case, ordinal=ordinal)
        position = self.positions.get(own)
        if position is None:
            return own, self._add(own), ordinal, True
        if self._codes[position]:
            # The ordinals differ, so this is a collision of 64-bit hashes.
            raise ReportRefused(f"another test has the identity of {case.class_name} {case.name}")
        return own, position, ordinal, False


class _Spool:
    """Rows in the order in which they were added, on disk once they are many."""

    def __init__(self) -> None:
        self._file = cast("IO[bytes]", tempfile.SpooledTemporaryFile(max_size=MEMORY))  # noqa: SIM115 - as long as the book
        self._rows: list[tuple[object, ...]] = []

    def add(self, row: tuple[object, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) == SPOOLED:
            self._flush()

    def __iter__(self) -> Iterator[list[Any]]:
        self._flush()
        self._file.seek(0)
        for line in self._file:
            yield from orjson.loads(line)

    def _flush(self) -> None:
        self._file.write(orjson.dumps(self._rows, option=orjson.OPT_APPEND_NEWLINE))
        self._rows = []


def storable(text: str) -> str:
    """A text as PostgreSQL can keep it: without NUL, and without halves of surrogate pairs."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if text.isascii() else text.encode(errors="replace").decode()


def _part(text: str) -> bytes:
    data = text.encode(errors="replace")
    return _LENGTH.pack(len(data)) + data
