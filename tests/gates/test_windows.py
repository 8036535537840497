"""When windows open: a table of cases, the same answers as dateutil gives, and bounded work."""

import time
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.errors import Invalid
from apps.gates.windows import (
    check_window,
    clean_rrule,
    is_open,
    is_permitted,
    next_change,
    next_opening,
    next_openings,
)
from tests.gates.make import window_fact


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def opens(window, at, number=3):
    return [
        (f"{start:%Y-%m-%dT%H:%M}", int((end - start).total_seconds() / 60))
        for start, end in next_openings(window, utc(at), number)
    ]


def starts(window, at, number=3):
    return [start for start, _ in opens(window, at, number)]


BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"

# Name, window, a moment, and when it opens from then on, in UTC.
CASES = [
    (
        "once, without a rule",
        window_fact("2026-05-01T10:00", 90),
        "2026-01-01",
        ["2026-05-01T10:00"],
    ),
    (
        "in the past: never again",
        window_fact("2026-05-01T10:00", 90),
        "2026-06-01",
        [],
    ),
    (
        "an hour of a zone is another one of UTC in summer",
        window_fact("2026-03-27T22:00", 60, "FREQ=DAILY", BERLIN),
        "2026-03-27",
        ["2026-03-27T21:00", "2026-03-28T21:00", "2026-03-29T20:00"],
    ),
    (
        "a start that the change to summer time skips is read with the offset before it",
        window_fact("2026-03-28T02:30", 30, "FREQ=DAILY", BERLIN),
        "2026-03-28",
        ["2026-03-28T01:30", "2026-03-29T01:30", "2026-03-30T00:30"],
    ),
    (
        "a start that the change to winter time brings twice is the first of both",
        window_fact("2026-10-24T02:30", 30, "FREQ=DAILY", BERLIN),
        "2026-10-24",
        ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"],
    ),
    (
        "the gap of New York, on its own day",
        window_fact("2026-03-08T02:15", 30, "FREQ=DAILY;COUNT=2", NEW_YORK),
        "2026-03-01",
        ["2026-03-08T07:15", "2026-03-09T06:15"],
    ),
    (
        "half an hour of daylight saving",
        window_fact("2026-04-04T01:45", 30, "FREQ=DAILY", "Australia/Lord_Howe"),
        "2026-04-03",
        ["2026-04-03T14:45", "2026-04-04T14:45", "2026-04-05T15:15"],
    ),
    (
        "a day that a zone left out",
        window_fact("2011-12-29T12:00", 60, "FREQ=DAILY", "Pacific/Apia"),
        "2011-12-29",
        ["2011-12-29T22:00", "2011-12-30T22:00", "2011-12-31T22:00"],
    ),
    (
        "over the end of a year",
        window_fact("2026-12-30T23:30", 60, "FREQ=DAILY", BERLIN),
        "2026-12-31T12:00",
        ["2026-12-31T22:30", "2027-01-01T22:30", "2027-01-02T22:30"],
    ),
    (
        "open on both sides of it",
        window_fact("2025-12-31T20:00", 600),
        "2026-01-01T01:00",
        ["2025-12-31T20:00"],
    ),
    (
        "every 29 February that is within a year",
        window_fact("2024-02-29T08:00", 60, "FREQ=YEARLY"),
        "2027-06-01",
        ["2028-02-29T08:00"],
    ),
    (
        "no 29 February within a year",
        window_fact("2024-02-29T08:00", 60, "FREQ=YEARLY"),
        "2026-06-01",
        [],
    ),
    (
        "the last day of each month",
        window_fact("2028-01-31T08:00", 60, "FREQ=MONTHLY;BYMONTHDAY=-1"),
        "2028-02-01",
        ["2028-02-29T08:00", "2028-03-31T08:00", "2028-04-30T08:00"],
    ),
    (
        "the 31st leaves the short months out",
        window_fact("2026-01-31T08:00", 60, "FREQ=MONTHLY"),
        "2026-02-01",
        ["2026-03-31T08:00", "2026-05-31T08:00", "2026-07-31T08:00"],
    ),
    (
        "the first Monday and the last Friday of a month",
        window_fact("2026-01-01T08:00", 60, "FREQ=MONTHLY;BYDAY=1MO,-1FR"),
        "2026-01-01",
        ["2026-01-05T08:00", "2026-01-30T08:00", "2026-02-02T08:00"],
    ),
    (
        "every Tuesday and the second Monday",
        window_fact("2026-01-01T08:00", 60, "FREQ=MONTHLY;BYDAY=TU,2MO"),
        "2026-01-11",
        ["2026-01-12T08:00", "2026-01-13T08:00", "2026-01-20T08:00"],
    ),
    (
        "the last working day of a month",
        window_fact("2026-01-01T08:00", 60, "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1"),
        "2026-01-01",
        ["2026-01-30T08:00", "2026-02-27T08:00", "2026-03-31T08:00"],
    ),
    (
        "every other week, counted from the first",
        window_fact("2026-01-05T08:00", 60, "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE"),
        "2026-01-08",
        ["2026-01-19T08:00", "2026-01-21T08:00", "2026-02-02T08:00"],
    ),
    (
        "the week may begin on a Sunday",
        window_fact("2002-08-06T09:00", 60, "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU"),
        "2002-08-01",
        ["2002-08-06T09:00", "2002-08-18T09:00", "2002-08-20T09:00"],
    ),
    (
        "every third day over the end of a year",
        window_fact("2025-12-29T08:00", 60, "FREQ=DAILY;INTERVAL=3"),
        "2025-12-30",
        ["2026-01-01T08:00", "2026-01-04T08:00", "2026-01-07T08:00"],
    ),
    (
        "every fifth hour",
        window_fact("2026-01-01T00:00", 30, "FREQ=HOURLY;INTERVAL=5"),
        "2026-01-01T19:00",
        ["2026-01-01T20:00", "2026-01-02T01:00", "2026-01-02T06:00"],
    ),
    (
        "COUNT counts from the first, also years later",
        window_fact("2020-01-01T08:00", 60, "FREQ=MONTHLY;COUNT=74"),
        "2025-12-15",
        ["2026-01-01T08:00", "2026-02-01T08:00"],
    ),
    (
        "UNTIL takes its own moment in",
        window_fact("2026-01-01T08:00", 60, "FREQ=DAILY;UNTIL=20260102T070000Z", BERLIN),
        "2026-01-01",
        ["2026-01-01T07:00", "2026-01-02T07:00"],
    ),
    (
        "UNTIL of the window's own zone",
        window_fact("2026-01-01T08:00", 60, "FREQ=DAILY;UNTIL=20260102T080000", BERLIN),
        "2026-01-01",
        ["2026-01-01T07:00", "2026-01-02T07:00"],
    ),
    (
        "a rule that does not take its own start begins later",
        window_fact("2026-01-01T08:00", 60, "FREQ=WEEKLY;BYDAY=MO"),
        "2026-01-01",
        ["2026-01-05T08:00", "2026-01-12T08:00", "2026-01-19T08:00"],
    ),
]


@pytest.mark.parametrize(
    ("window", "at", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_it_opens_when_the_table_says(window, at, expected):
    check_window(window)
    assert starts(window, at) == expected


def test_its_minutes_are_real_ones_when_the_clock_changes():
    # By the clock on the wall from 00:00 to 07:00, and from 00:00 to 05:00.
    spring = window_fact("2026-03-29T00:00", 360, "", BERLIN)
    autumn = window_fact("2026-10-25T00:00", 360, "", BERLIN)
    assert opens(spring, "2026-03-01") == [("2026-03-28T23:00", 360)]
    assert opens(autumn, "2026-10-01") == [("2026-10-24T22:00", 360)]
    assert is_open(autumn, utc("2026-10-25T03:59"))
    assert not is_open(autumn, utc("2026-10-25T04:00"))


def test_it_opens_once_for_an_hour_that_comes_twice():
    window = window_fact("2026-10-25T02:30", 20, "", BERLIN)
    assert is_open(window, utc("2026-10-25T00:30"))
    assert not is_open(window, utc("2026-10-25T00:50"))
    assert not is_open(window, utc("2026-10-25T01:30"))


def test_it_is_open_from_its_first_moment_to_before_its_last():
    window = window_fact("2026-05-01T10:00", 60)
    moment = timedelta(microseconds=1)
    assert not is_open(window, utc("2026-05-01T10:00") - moment)
    assert is_open(window, utc("2026-05-01T10:00"))
    assert is_open(window, utc("2026-05-01T11:00") - moment)
    assert not is_open(window, utc("2026-05-01T11:00"))


def test_openings_that_overlap_or_touch_are_one():
    assert opens(window_fact("2026-01-01T00:00", 90, "FREQ=HOURLY;COUNT=3"), "2026-01-01") == [
        ("2026-01-01T00:00", 210)
    ]
    assert opens(window_fact("2026-01-01T00:00", 60, "FREQ=HOURLY;COUNT=3"), "2026-01-01") == [
        ("2026-01-01T00:00", 180)
    ]


def test_a_window_that_lasts_a_year_is_still_open_at_its_end():
    window = window_fact("2025-01-15T00:00", 60 * 24 * 366)
    assert is_open(window, utc("2026-01-15T23:59"))
    assert not is_open(window, utc("2026-01-16T00:00"))


NIGHTS = window_fact("2026-01-01T22:00", 120, "FREQ=DAILY")
FREEZE = window_fact("2026-12-20T00:00", 60 * 24 * 14, kind="deny")


def test_without_windows_it_is_always_open():
    at = utc("2026-05-01T10:00")
    assert is_permitted((), at)
    assert next_opening((), at) == at
    assert next_change((), at) is None


def test_with_allows_it_is_open_in_any_of_them():
    noon = window_fact("2026-01-01T12:00", 60, "FREQ=DAILY")
    assert not is_permitted((NIGHTS, noon), utc("2026-05-01T11:59"))
    assert is_permitted((NIGHTS, noon), utc("2026-05-01T12:00"))
    assert is_permitted((NIGHTS, noon), utc("2026-05-01T23:59"))
    assert next_opening((NIGHTS, noon), utc("2026-05-01T13:00")) == utc("2026-05-01T22:00")
    assert next_change((NIGHTS, noon), utc("2026-05-01T22:30")) == utc("2026-05-02T00:00")


def test_a_deny_shuts_whatever_allows():
    assert not is_permitted((FREEZE,), utc("2026-12-24T12:00"))
    assert is_permitted((FREEZE,), utc("2027-01-03T00:00"))
    assert not is_permitted((FREEZE, NIGHTS), utc("2026-12-24T22:30"))
    # Not when the freeze ends, but in the first night after it.
    assert next_opening((FREEZE, NIGHTS), utc("2026-12-24T12:00")) == utc("2027-01-03T22:00")
    assert next_change((FREEZE,), utc("2026-12-01")) == utc("2026-12-20T00:00")


def test_a_deny_leaves_what_it_does_not_cover_of_an_allow():
    middle = window_fact("2026-05-01T22:30", 30, kind="deny")
    assert next_change((NIGHTS, middle), utc("2026-05-01T22:00")) == utc("2026-05-01T22:30")
    assert next_opening((NIGHTS, middle), utc("2026-05-01T22:30")) == utc("2026-05-01T23:00")
    assert next_change((NIGHTS, middle), utc("2026-05-01T23:10")) == utc("2026-05-02T00:00")


def test_an_opening_is_looked_for_a_year_ahead_and_no_further():
    far = window_fact("2027-06-01T00:00", 60)
    assert next_opening((far,), utc("2026-06-01T00:00")) == utc("2027-06-01T00:00")
    assert next_opening((far,), utc("2026-05-31T23:59")) is None
    always = window_fact("2026-01-01T00:00", 60, "FREQ=HOURLY", kind="deny")
    assert next_opening((always,), utc("2026-05-31T23:59")) is None
    assert next_change((always,), utc("2026-05-31T23:59")) is None


REFUSED = [
    ({"rrule": "FREQ=SECONDLY"}, "opens too often"),
    ({"rrule": "FREQ=MINUTELY;INTERVAL=90"}, "opens too often"),
    ({"rrule": "FREQ=DAILY;BYSECOND=0,30"}, "BYSECOND is refused"),
    ({"rrule": "FREQ=HOURLY;BYMINUTE=0,15,30,45"}, "BYMINUTE may name one minute"),
    ({"rrule": "BYDAY=MO"}, "FREQ must be one of"),
    ({"rrule": "FREQ=FORTNIGHTLY"}, "FREQ must be one of"),
    ({"rrule": "every day"}, "not of the form NAME=VALUE"),
    ({"rrule": "FREQ=DAILY;FREQ=WEEKLY"}, "FREQ is there twice"),
    ({"rrule": "FREQ=DAILY;BYEASTER=0"}, "BYEASTER is unknown"),
    ({"rrule": "FREQ=DAILY\nRDATE:20260101T000000"}, "FREQ must be one of"),
    ({"rrule": "FREQ=DAILY;INTERVAL=0"}, "INTERVAL must be a whole number from 1"),
    ({"rrule": "FREQ=DAILY;INTERVAL=1e3"}, "INTERVAL must be a whole number from 1"),
    ({"rrule": "FREQ=DAILY;COUNT=5;UNTIL=20270101T000000Z"}, "do not go together"),
    ({"rrule": "FREQ=DAILY;UNTIL=20270101"}, "UNTIL must be a time"),
    ({"rrule": "FREQ=DAILY;UNTIL=20271301T000000Z"}, "UNTIL must be a time"),
    ({"rrule": "FREQ=DAILY;UNTIL=20250101T000000Z"}, "UNTIL lies before"),
    ({"rrule": "FREQ=DAILY;BYHOUR=24"}, "BYHOUR must be a whole number from 0 to 23"),
    ({"rrule": "FREQ=DAILY;BYMONTH=0"}, "BYMONTH must be a whole number from 1 to 12"),
    ({"rrule": "FREQ=MONTHLY;BYMONTHDAY=0"}, "BYMONTHDAY has no 0"),
    ({"rrule": "FREQ=WEEKLY;BYDAY=XX"}, "BYDAY lists days"),
    ({"rrule": "FREQ=WEEKLY;BYDAY=1MO"}, "BYDAY with a number goes with"),
    ({"rrule": "FREQ=MONTHLY;BYDAY=6MO"}, "from 1 to 5"),
    ({"rrule": "FREQ=MONTHLY;BYDAY=0MO"}, "BYDAY lists days"),
    ({"rrule": "FREQ=YEARLY;BYMONTH=12;BYDAY=53MO"}, "from 1 to 5"),
    ({"rrule": "FREQ=WEEKLY;BYMONTHDAY=1"}, "BYMONTHDAY goes with"),
    ({"rrule": "FREQ=WEEKLY;BYDAY=MO,TU;BYSETPOS=1"}, "BYSETPOS goes with"),
    ({"rrule": "FREQ=MONTHLY;BYSETPOS=1"}, "BYSETPOS picks from"),
    ({"rrule": "FREQ=DAILY;WKST=1"}, "WKST must be one of"),
    ({"rrule": "FREQ=DAILY;BYHOUR=" + ",".join(["1"] * 200)}, "at most 300 are read"),
    ({"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "never comes true"),
    ({"rrule": "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30"}, "never comes true"),
    ({"rrule": "FREQ=HOURLY;INTERVAL=2;BYHOUR=1"}, "never comes true"),
    ({"timezone": "Mars/Olympus"}, "IANA"),
    ({"timezone": "../etc/passwd"}, "IANA"),
    ({"timezone": "localtime"}, "IANA"),
    ({"timezone": ""}, "IANA"),
    ({"starts_at": "2026-01-01"}, "starts_at must be a local time"),
    ({"starts_at": "2026-01-01T00:00Z"}, "starts_at must be a local time"),
    ({"starts_at": "1970-01-01T00:00"}, "from 2000 to 2100"),
    ({"starts_at": "2026-02-30T00:00"}, "starts_at must be a local time"),
    ({"minutes": 0}, "minutes must be from 1"),
    ({"minutes": 60 * 24 * 367}, "minutes must be from 1"),
    ({"kind": "maybe"}, "kind must be allow or deny"),
]


@pytest.mark.parametrize(("fields", "says"), REFUSED, ids=[f"{each[0]}"[:60] for each in REFUSED])
def test_what_cannot_be_a_window_is_refused_with_a_reason(fields, says):
    with pytest.raises(Invalid, match=says):
        check_window(window_fact(**{"starts_at": "2026-01-01T00:00", **fields}))


def test_rules_are_kept_in_one_form():
    assert clean_rrule(" rrule:freq=daily;byhour=3; ") == "FREQ=DAILY;BYHOUR=3"
    assert clean_rrule("") == ""


HOSTILE = [
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=31",
    "FREQ=DAILY;BYMONTH=4;BYMONTHDAY=31",
    "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=HOURLY;INTERVAL=9999;BYYEARDAY=366;BYHOUR=3",
    "FREQ=YEARLY;INTERVAL=10000",
    "FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6",
    "FREQ=HOURLY;COUNT=1000000",
    "FREQ=HOURLY",
    "FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(24))),
]


@pytest.mark.parametrize("rule", HOSTILE)
def test_no_rule_keeps_the_gate_busy(rule):
    # dateutil alone would search some of them up to the year 9999.
    window = window_fact("2000-01-01T00:30", 7, rule)
    began = time.process_time()
    next_openings(window, utc("2026-05-01"), 5)
    next_opening((window,), utc("2026-05-01"))
    assert time.process_time() - began < 2
    began = time.process_time()
    for minute in range(100):
        next_opening((window,), utc("2026-05-01") + timedelta(minutes=minute))
    assert time.process_time() - began < 0.1


RULES = st.one_of(
    st.builds(
        "FREQ=DAILY;INTERVAL={}{}".format,
        st.integers(1, 40),
        st.sampled_from(["", ";BYHOUR=3,17", ";BYDAY=MO,SA", ";BYMONTH=1,2,7", ";COUNT=17", ";BYMINUTE=20"]),
    ),
    st.builds(
        "FREQ=HOURLY;INTERVAL={}{}".format,
        st.integers(1, 50),
        st.sampled_from(["", ";BYDAY=TU", ";BYMINUTE=5", ";COUNT=30", ";BYMONTHDAY=1,-1"]),
    ),
    st.builds(
        "FREQ=WEEKLY;INTERVAL={}{}{}".format,
        st.integers(1, 6),
        st.sampled_from(
            ["", ";BYDAY=MO", ";BYDAY=SU,WE", ";BYDAY=FR;BYHOUR=1,2", ";BYMONTH=12,1", ";COUNT=9"]
        ),
        st.sampled_from(["", ";WKST=SU", ";WKST=WE"]),
    ),
    st.builds(
        "FREQ=MONTHLY;INTERVAL={}{}".format,
        st.integers(1, 5),
        st.sampled_from(
            [
                "",
                ";BYMONTHDAY=1,15,-1",
                ";BYDAY=1MO,-1FR",
                ";BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1,2",
                ";BYMONTHDAY=13;BYDAY=FR",
                ";COUNT=5",
            ]
        ),
    ),
    st.builds(
        "FREQ=YEARLY;INTERVAL={}{}".format,
        st.integers(1, 3),
        st.sampled_from(
            [
                "",
                ";BYMONTH=2,6",
                ";BYDAY=20MO,-1SU",
                ";BYMONTH=3,10;BYDAY=-1SU",
                ";BYYEARDAY=1,100,-1",
                ";BYWEEKNO=1,20,53;BYDAY=MO",
                ";BYWEEKNO=-1",
                ";BYMONTH=1,4;BYDAY=MO;BYSETPOS=1,-2",
                ";COUNT=2",
            ]
        ),
    ),
)
TIMES = st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31)).map(
    lambda each: each.replace(second=0, microsecond=0)
)


@settings(max_examples=100, deadline=None)
@given(first=TIMES, rule=RULES)
def test_it_opens_when_dateutil_says(first, rule):
    opens_when_dateutil_says(first, rule)


@pytest.mark.full
@settings(max_examples=3000, deadline=None)
@given(first=TIMES, rule=RULES)
def test_it_always_opens_when_dateutil_says(first, rule):
    opens_when_dateutil_says(first, rule)


def opens_when_dateutil_says(first, rule):
    window = window_fact(f"{first:%Y-%m-%dT%H:%M}", 1, rule)
    at = first.replace(tzinfo=UTC)
    last = at + timedelta(days=364)
    ours = [start for start, _ in next_openings(window, at, 10_000) if start <= last]
    theirs = rrulestr(rule, dtstart=first)
    dated = (each.replace(tzinfo=UTC) for each in islice(theirs, 10_000))
    assert ours == list(takewhile(lambda each: each <= last, dated))
