"""Durations as reports write them."""

import math

import pytest

from apps.builds.parsers.duration import clock_ns, number_ns, seconds_ns


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1.5", 1_500_000_000),
        (" 2 ", 2_000_000_000),
        ("1e-3", 1_000_000),
        ("1,234.5", 1_234_500_000_000),
        ("1,234,567", 1_234_567_000_000_000),
        ("0,12", 120_000_000),
        ("", 0),
        ("NaN", 0),
        ("-1", 0),
        ("inf", 0),
        ("1e400", 0),
        ("fast", 0),
    ],
)
def test_seconds(text, nanoseconds):
    assert seconds_ns(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("00:00:01.5000000", 1_500_000_000),
        ("01:02:03", 3_723_000_000_000),
        ("1.00:00:00.0000001", 86_400_000_000_100),
        ("", 0),
        ("-00:00:01", 0),
        ("1,5", 0),
    ],
)
def test_clock_times(text, nanoseconds):
    assert clock_ns(text) == nanoseconds


@pytest.mark.parametrize(
    ("number", "nanoseconds"),
    [
        (12, 12),
        (1.6, 2),
        (-1, 0),
        (math.nan, 0),
        (math.inf, 0),
        (10**400, 0),
        (True, 0),
        ("12", 0),
        (None, 0),
    ],
)
def test_numbers(number, nanoseconds):
    assert number_ns(number, unit=1) == nanoseconds
