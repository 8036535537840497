"""How all test cases of a report ended, in five bytes each.

A case's place is its position in the service's report group, which never changes, so one case of many reports
is one small slice of each. The first byte is how it ended: 0 where the report does not have it, 1 passed,
2 failed, 3 in error, 4 skipped, 5 unknown; 128 more where it both failed and passed in attempts of one
report. The other four are its duration, big-endian, in units of 10 µs; 11.9 hours where it lasted longer.
"""

import struct
import sys
from array import array
from typing import NamedTuple

from apps.builds.parsers.case import Outcome

SIZE = 5  # bytes of a case
UNIT_NS = 10_000
LONGEST = 2**32 - 1  # units
FLAKY = 0x80
CODES = {
    Outcome.PASSED: 1,
    Outcome.FAILED: 2,
    Outcome.ERROR: 3,
    Outcome.SKIPPED: 4,
    Outcome.UNKNOWN: 5,
}
LAYOUT = struct.Struct(">BI")

_OUTCOMES = {code: outcome for outcome, code in CODES.items()}
# By code, as within one report: error, failed, unknown, skipped, passed; absent is none of them.
_GRAVITY = {3: 5, 2: 4, 5: 3, 4: 2, 1: 1, 0: 0}


class Ended(NamedTuple):
    """How one case of one report ended."""

    outcome: Outcome
    duration_ns: int
    flaky: bool = False

    @property
    def seconds(self) -> float:
        """For people."""
        return self.duration_ns / 1e9


def units(duration_ns: int) -> int:
    """A duration as it is kept."""
    return min((duration_ns + UNIT_NS // 2) // UNIT_NS, LONGEST)


def ended(data: bytes | bytearray | memoryview, position: int = 0) -> Ended | None:
    """The case at a position of a report's outcomes; None where the report does not have it."""
    if (position + 1) * SIZE > len(data):
        return None
    code, duration = LAYOUT.unpack_from(data, position * SIZE)
    if not code:
        return None
    return Ended(_OUTCOMES[code & ~FLAKY], duration * UNIT_NS, bool(code & FLAKY))


def codes(data: bytes) -> bytes:
    """How each case ended, one byte by position."""
    return data[::SIZE]


def durations(data: bytes) -> "array[int]":
    """How long each case took, in units, by position. Some milliseconds for a million."""
    raw = bytearray(len(data) // SIZE * 4)
    for byte in range(4):
        raw[byte::4] = data[byte + 1 :: SIZE]
    return _swapped(array("I", bytes(raw)))


def packed(codes: bytes | bytearray, units: "array[int]") -> bytearray:
    """A report's outcomes, of the codes and the durations by position."""
    data = bytearray(len(codes) * SIZE)
    data[::SIZE] = codes
    raw = _swapped(units).tobytes()
    for byte in range(4):
        data[byte + 1 :: SIZE] = raw[byte::4]
    return data


def together(one: bytes, other: bytes) -> bytes:
    """Two reports of one group in one build: of a case that both have, the graver outcome."""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    merged = bytearray(longer)
    for start in range(0, len(shorter), SIZE):
        if _GRAVITY[shorter[start] & ~FLAKY] > _GRAVITY[merged[start] & ~FLAKY]:
            merged[start : start + SIZE] = shorter[start : start + SIZE]
    return bytes(merged)


def _swapped(units: "array[int]") -> "array[int]":
    """Durations as they are kept for as they are here, or the other way round."""
    swapped = units[:]
    if sys.byteorder == "little":
        swapped.byteswap()
    return swapped
