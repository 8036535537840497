"""Durations as reports write them, in integer nanoseconds. What is no duration is 0."""

import re
from functools import lru_cache

LONGEST = 3_000_000_000  # seconds; a century is no duration of a test


@lru_cache(maxsize=4096)
def seconds_ns(text: str) -> int:
    """Seconds, with a decimal point or comma, and with thousands or without; negative or no number is 0."""
    text = text.strip()
    if "," in text:
        text = text.replace(",", "." if re.fullmatch(r"[0-9]+,[0-9]+", text) else "")
    try:
        return number_ns(float(text or 0), unit=1_000_000_000)
    except ValueError:
        return 0


def clock_ns(text: str) -> int:
    """``[days.]hours:minutes:seconds[.fraction]``, as .NET writes a TimeSpan; what is not that is 0."""
    match = re.fullmatch(
        r"(?:([0-9]{1,5})\.)?([0-9]{1,4}):([0-9]{1,2}):([0-9]{1,2})(?:\.([0-9]{1,9}))?", text.strip()
    )
    if not match:
        return 0
    days, hours, minutes, seconds, fraction = match.groups()
    whole = ((int(days or 0) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def number_ns(number: object, *, unit: int) -> int:
    """A number of units of so many nanoseconds, from JSON; what is negative, infinite or no number is 0."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return 0
    # Also false for NaN and infinity. Compared before multiplying, since a whole number can be huge.
    return round(number * unit) if 0 <= number <= LONGEST * 1_000_000_000 // unit else 0
