"""When an environment may be deployed to: pure functions of its windows (WindowFact).

A window opens at a local time, once or as an RRULE (RFC 5545) says. A local time that a change of the clock
skips is read with the offset before the change, one that comes twice is the first of both (RFC 5545, 3.3.5):
a window never opens twice for one. However the clock changes, it is open for its minutes in real time.

The work is bounded whatever the rule says. Openings are worked out a year at a time and kept; dateutil, which
would search a rule that never comes true up to the year 9999, is only asked which days of one year it takes.
"""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import groupby, islice, takewhile
from zoneinfo import ZoneInfo, available_timezones

from dateutil.rrule import YEARLY, rrule, weekday, weekdays

from apps.errors import Invalid
from apps.gates.facts import WindowFact

# How far ahead an opening is looked for.
HORIZON = timedelta(days=365)
LONGEST_MINUTES = 60 * 24 * 366
YEARS = range(2000, 2101)  # in which a window may begin
LONGEST_RULE = 300  # characters
STARTS_AT = "%Y-%m-%dT%H:%M"
ALLOW, DENY = "allow", "deny"

FREQUENCIES = ("HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
# What each list of numbers may hold, and whether it may count from the end.
LISTS = {
    "BYMONTH": (1, 12, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYHOUR": (0, 23, False),
    "BYMINUTE": (0, 59, False),
    "BYSETPOS": (1, 366, True),
}
PARTS = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *LISTS)
# Parts that pick days, without which a rule takes the day on which it begins.
PICK_DAYS = ("BYDAY", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO")
# RFC 5545, 3.3.10: the parts that go with some frequencies only.
ONLY_WITH = {
    "BYMONTHDAY": ("HOURLY", "DAILY", "MONTHLY", "YEARLY"),
    "BYYEARDAY": ("HOURLY", "YEARLY"),
    "BYWEEKNO": ("YEARLY",),
    # Narrower than there, where it would pick among the days of a week or the hours of a day.
    "BYSETPOS": ("MONTHLY", "YEARLY"),
}
# Years in which a rule has to come true at least once: 29 February is a Monday every 28 years, or 40.
MUST_OPEN_WITHIN = 40
# With it, dateutil ends after the year in which it begins.
ONE_YEAR_ONLY = 10_000


@dataclass(frozen=True)
class Recurrence:
    """An RRULE that was read and found fit."""

    frequency: str
    interval: int
    count: int | None
    # Naive for a local time.
    until: datetime | None
    week_start: int  # 0 is Monday
    days: tuple[weekday, ...]
    numbers: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Spans:
    """Times without overlap and in order, in seconds since 1970; arrays, since many are kept."""

    starts: "array[int]"
    ends: "array[int]"

    def end_of(self, moment: float) -> int | None:
        """The end of the one that ``moment`` is in."""
        at = bisect_right(self.starts, moment) - 1
        return self.ends[at] if at >= 0 and moment < self.ends[at] else None

    def next_start(self, moment: float) -> int | None:
        """The start of the first one that begins after ``moment``."""
        at = bisect_right(self.starts, moment)
        return self.starts[at] if at < len(self.starts) else None

    def after(self, moment: float) -> Iterator[tuple[int, int]]:
        """Those that have not ended by then, of which the first may have begun."""
        first = bisect_right(self.ends, moment)
        return ((self.starts[at], self.ends[at]) for at in range(first, len(self.ends)))

    def pairs(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)


def check_window(window: WindowFact) -> None:
    """Raise Invalid, saying what to write instead, for a window that cannot be read or never opens."""
    if window.kind not in (ALLOW, DENY):
        raise Invalid(f"kind must be {ALLOW} or {DENY}, not {window.kind!r}.")
    if not 1 <= window.minutes <= LONGEST_MINUTES:
        raise Invalid(f"minutes must be from 1 to {LONGEST_MINUTES:,} (a year), not {window.minutes:,}.")
    first, zone, rule = _begin(window), _zone(window), _rule(window)
    if rule is None:
        return
    if rule.until is not None and _seconds(first, zone) > _seconds(rule.until, zone):
        raise Invalid(f"rrule: UNTIL lies before {window.starts_at}, so the window would never open.")
    years = range(first.year, first.year + MUST_OPEN_WITHIN + 1)
    if not any(_starts_in(window, year) for year in years):
        raise Invalid(
            f"rrule: {window.rrule} never comes true within {MUST_OPEN_WITHIN} years of {window.starts_at}."
        )


def clean_rrule(text: str) -> str:
    """A rule as it is kept: upper case, without spaces around it and without its property's name."""
    return text.strip().upper().removeprefix("RRULE:").strip().rstrip(";")


def is_open(window: WindowFact, at: datetime) -> bool:
    """Whether the window, of either kind, is open at that moment. Raises Invalid if it cannot be read."""
    return _openings(window, at.astimezone(UTC).year).end_of(at.timestamp()) is not None


def next_openings(window: WindowFact, at: datetime, limit: int) -> list[tuple[datetime, datetime]]:
    """When it opens and shuts again, within a year: the opening that lasts at ``at`` and those that follow.

    Those that overlap or touch are one. Raises Invalid if it cannot be read.
    """
    now, last = at.timestamp(), (at + HORIZON).timestamp()
    found = _openings(window, at.astimezone(UTC).year).after(now)
    coming = takewhile(lambda opening: opening[0] <= last, islice(found, limit))
    return [(_moment(start), _moment(end)) for start, end in coming]


def is_permitted(windows: tuple[WindowFact, ...], at: datetime) -> bool:
    """Whether no deny is open and, if there are allows, one of them is. Raises Invalid, as is_open does."""
    return _permitted(windows, at.astimezone(UTC).year).end_of(at.timestamp()) is not None


def next_opening(windows: tuple[WindowFact, ...], at: datetime) -> datetime | None:
    """The first moment from ``at`` on, within a year, at which is_permitted holds; None if there is none."""
    if is_permitted(windows, at):
        return at
    start = _permitted(windows, at.astimezone(UTC).year).next_start(at.timestamp())
    return _moment(start) if start is not None and start <= (at + HORIZON).timestamp() else None


def next_change(windows: tuple[WindowFact, ...], at: datetime) -> datetime | None:
    """When is_permitted changes next, within a year; None if it does not."""
    if not is_permitted(windows, at):
        return next_opening(windows, at)
    end = _permitted(windows, at.astimezone(UTC).year).end_of(at.timestamp())
    return _moment(end) if end is not None and end <= (at + HORIZON).timestamp() else None


@lru_cache(maxsize=512)
def _permitted(windows: tuple[WindowFact, ...], year: int) -> Spans:
    """When windows together let a deployment through, as far as ``year`` and HORIZON after it reach."""
    allows = [_openings(each, year) for each in windows if each.kind == ALLOW]
    denies = [_openings(each, year) for each in windows if each.kind != ALLOW]
    begin, end = _reach(year)
    permitted = [(begin, end)]
    if allows:
        permitted = _merged(pair for each in allows for pair in each.pairs())
    return _spans(_without(permitted, _merged(pair for each in denies for pair in each.pairs())))


@lru_cache(maxsize=1024)
def _openings(window: WindowFact, year: int) -> Spans:
    """When a window is open, as far as ``year`` and HORIZON after it reach."""
    begin, end = _reach(year)
    earliest = _moment(begin) - timedelta(minutes=window.minutes, days=1)
    last = _moment(end) + timedelta(days=1)
    length = window.minutes * 60
    starts = (start for each in range(earliest.year, last.year + 1) for start in _starts_in(window, each))
    spans = _merged((start, start + length) for start in starts)
    return _spans((start, stop) for start, stop in spans if stop > begin and start < end)


def _starts_in(window: WindowFact, year: int) -> list[int]:
    """The moments at which a window opens, of a local year."""
    first, zone, rule = _begin(window), _zone(window), _rule(window)
    if rule is None:
        return [_seconds(first, zone)] if year == first.year else []
    times = _times_in(rule, first, year)
    if rule.count is not None:
        left = rule.count
        for earlier in range(first.year, year):
            if left <= 0:
                break
            left -= len(_times_in(rule, first, earlier))
        times = times[: max(left, 0)]
    starts = sorted({_seconds(each, zone) for each in times})
    until = _seconds(rule.until, zone) if rule.until is not None else None
    return [each for each in starts if until is None or each <= until]


def _times_in(rule: Recurrence, first: datetime, year: int) -> list[datetime]:
    """The local times of a year that a rule takes, without a look at COUNT and UNTIL."""
    if year < first.year:
        return []
    hours = rule.numbers.get("BYHOUR") or (range(24) if rule.frequency == "HOURLY" else (first.hour,))
    (minute,) = rule.numbers.get("BYMINUTE") or (first.minute,)
    origin = _period(rule, first)
    times = [
        datetime(day.year, day.month, day.day, hour, minute)
        for day in _days_in(rule, first, year)
        for hour in hours
    ]
    times = [each for each in times if (_period(rule, each) - origin) % rule.interval == 0]
    if positions := rule.numbers.get("BYSETPOS"):
        groups = [list(group) for _, group in groupby(times, lambda each: _period(rule, each))]
        times = [each for group in groups for each in _at_positions(group, positions)]
    return [each for each in times if each >= first]


def _days_in(rule: Recurrence, first: datetime, year: int) -> list[date]:
    """The days of a year that a rule takes, without a look at INTERVAL and BYSETPOS."""
    numbers, days = rule.numbers, rule.days
    months, month_days = numbers.get("BYMONTH"), numbers.get("BYMONTHDAY")
    if not days and not any(name in numbers for name in PICK_DAYS):
        if rule.frequency == "YEARLY":
            months, month_days = months or (first.month,), (first.day,)
        elif rule.frequency == "MONTHLY":
            month_days = (first.day,)
        else:
            # Any day of the week would do; INTERVAL and the rest decide.
            days = (weekdays[first.weekday()],) if rule.frequency == "WEEKLY" else tuple(weekdays)
    if rule.frequency == "MONTHLY":
        # So that a first Monday is one of each month, and not one of the year.
        months = months or tuple(range(1, 13))
    found = rrule(
        YEARLY,
        dtstart=datetime(year, 1, 1),
        interval=ONE_YEAR_ONLY,
        wkst=rule.week_start,
        bymonth=months,
        bymonthday=month_days,
        byyearday=numbers.get("BYYEARDAY"),
        byweekno=numbers.get("BYWEEKNO"),
        byweekday=days or None,
    )
    return [each.date() for each in found]


def _period(rule: Recurrence, time: datetime) -> int:
    """The number of the hour, day, week, month or year that a time is in: what INTERVAL counts."""
    if rule.frequency == "YEARLY":
        return time.year
    if rule.frequency == "MONTHLY":
        return time.year * 12 + time.month
    day = time.toordinal()
    if rule.frequency == "WEEKLY":
        # Day 1 was a Monday.
        return (day - 1 - rule.week_start) // 7
    return day * 24 + time.hour if rule.frequency == "HOURLY" else day


def _at_positions(times: list[datetime], positions: tuple[int, ...]) -> list[datetime]:
    at = {position - 1 if position > 0 else len(times) + position for position in positions}
    return [each for index, each in enumerate(times) if index in at]


def _begin(window: WindowFact) -> datetime:
    try:
        begin = datetime.strptime(window.starts_at, STARTS_AT)
    except (TypeError, ValueError):
        begin = None
    if begin is None or begin.year not in YEARS:
        raise Invalid(
            f"starts_at must be a local time such as 2026-03-01T22:00, from {YEARS[0]} to {YEARS[-1]}, and "
            f"not {window.starts_at!r}; timezone says where it is meant."
        )
    return begin


def _zone(window: WindowFact) -> ZoneInfo:
    if window.timezone not in zones():
        raise Invalid(
            f"timezone must be a name of the IANA database such as Europe/Berlin, not {window.timezone!r}."
        )
    return ZoneInfo(window.timezone)


@lru_cache(maxsize=1)
def zones() -> frozenset[str]:
    """The time zones that there are; not the machine's own, which is another one elsewhere."""
    return frozenset(available_timezones()) - {"Factory", "localtime"}


def _rule(window: WindowFact) -> Recurrence | None:
    return _read_rule(window.rrule) if window.rrule else None


@lru_cache(maxsize=1024)
def _read_rule(text: str) -> Recurrence:
    parts = _parts(text)
    frequency = parts.get("FREQ", "")
    if frequency in ("SECONDLY", "MINUTELY"):
        raise Invalid(f"rrule: FREQ={frequency} opens too often; HOURLY is the most.")
    if frequency not in FREQUENCIES:
        raise Invalid(f"rrule: FREQ must be one of {', '.join(FREQUENCIES)}, as in FREQ=WEEKLY;BYDAY=MO,TU.")
    if "COUNT" in parts and "UNTIL" in parts:
        raise Invalid("rrule: COUNT and UNTIL do not go together.")
    for name, frequencies in ONLY_WITH.items():
        if name in parts and frequency not in frequencies:
            raise Invalid(f"rrule: {name} goes with FREQ={' or '.join(frequencies)} only.")
    if "BYSETPOS" in parts and not any(name in parts for name in (*PICK_DAYS, "BYMONTH", "BYHOUR")):
        raise Invalid("rrule: BYSETPOS picks from what another BY part lists, and there is none.")
    if parts.get("WKST", "MO") not in DAYS:
        raise Invalid(f"rrule: WKST must be one of {', '.join(DAYS)}, not {parts['WKST']}.")
    if "," in parts.get("BYMINUTE", ""):
        raise Invalid("rrule: BYMINUTE may name one minute; for more, make more windows, or a longer one.")
    return Recurrence(
        frequency=frequency,
        interval=_number(parts, "INTERVAL", 1, 10_000) if "INTERVAL" in parts else 1,
        count=_number(parts, "COUNT", 1, 1_000_000) if "COUNT" in parts else None,
        until=_until(parts["UNTIL"]) if "UNTIL" in parts else None,
        week_start=DAYS.index(parts.get("WKST", "MO")),
        days=_week_days(parts, frequency) if "BYDAY" in parts else (),
        numbers={name: _numbers(parts, name) for name in LISTS if name in parts},
    )


def _parts(text: str) -> dict[str, str]:
    if len(text) > LONGEST_RULE:
        raise Invalid(f"rrule: it has {len(text):,} characters; at most {LONGEST_RULE} are read.")
    parts: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise Invalid(f"rrule: {part!r} is not of the form NAME=VALUE, as in FREQ=DAILY;BYHOUR=22.")
        if name == "BYSECOND":
            raise Invalid("rrule: BYSECOND is refused; a window opens at a whole minute.")
        if name not in PARTS:
            raise Invalid(f"rrule: {name} is unknown. Known: {', '.join(PARTS)}.")
        if name in parts:
            raise Invalid(f"rrule: {name} is there twice.")
        parts[name] = value
    return parts


def _number(parts: dict[str, str], name: str, least: int, most: int, *, text: str | None = None) -> int:
    text = parts[name] if text is None else text
    number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,9}", text) else None
    if number is None or not least <= number <= most:
        raise Invalid(f"rrule: {name} must be a whole number from {least} to {most:,}, not {text}.")
    return number


def _numbers(parts: dict[str, str], name: str) -> tuple[int, ...]:
    least, most, from_the_end = LISTS[name]
    numbers = {
        _number(parts, name, -most if from_the_end else least, most, text=text)
        for text in parts[name].split(",")
    }
    if least == 1 and 0 in numbers:
        raise Invalid(f"rrule: {name} has no 0; it counts from 1, or from -1 backwards.")
    return tuple(sorted(numbers))


def _week_days(parts: dict[str, str], frequency: str) -> tuple[weekday, ...]:
    found: set[tuple[int, int]] = set()  # day, and which of its kind; 0: each
    for text in parts["BYDAY"].split(","):
        match = re.fullmatch(r"([+-]?[1-9][0-9]?)?(MO|TU|WE|TH|FR|SA|SU)", text)
        if match is None:
            raise Invalid(f"rrule: BYDAY lists days such as MO or, of a month, 1MO and -1FR, not {text}.")
        found.add((DAYS.index(match[2]), int(match[1]) if match[1] else 0))
    of_month = frequency == "MONTHLY" or "BYMONTH" in parts
    most = 5 if of_month else 53
    if any(number for _, number in found):
        if frequency not in ("MONTHLY", "YEARLY") or "BYWEEKNO" in parts:
            raise Invalid(
                "rrule: BYDAY with a number goes with FREQ=MONTHLY or YEARLY only, and not with BYWEEKNO."
            )
        if any(abs(number) > most for _, number in found):
            raise Invalid(f"rrule: a number in BYDAY is from 1 to {most}, or from -1 to -{most}.")
        # dateutil wants both to be true of a day where some have a number and some have none.
        each = {(day, number) for day, zero in found if not zero for number in range(1, most + 1)}
        found = {(day, number) for day, number in found if number} | each
    return tuple(weekdays[day](number) if number else weekdays[day] for day, number in sorted(found))


def _until(text: str) -> datetime:
    match = re.fullmatch(r"([0-9]{8}T[0-9]{6})(Z?)", text)
    try:
        until = datetime.strptime(match[1], "%Y%m%dT%H%M%S") if match else None
    except ValueError:
        until = None
    if match is None or until is None or until.year < YEARS[0]:
        raise Invalid(
            "rrule: UNTIL must be a time such as 20261231T225959Z, or without the Z one of the window's "
            f"time zone; it is {text}. A date alone would not say whether it still counts."
        )
    return until.replace(tzinfo=UTC) if match[2] else until


def _seconds(time: datetime, zone: ZoneInfo) -> int:
    """A time, local if it is naive, in seconds since 1970."""
    # fold=0: before a change that skips it, and the first of two.
    return int((time if time.tzinfo else time.replace(tzinfo=zone, fold=0)).timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _reach(year: int) -> tuple[int, int]:
    """What is worked out at once for all moments of a year: from its begin to HORIZON after its end."""
    begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    return int(begin.timestamp()), int((end + HORIZON + timedelta(days=1)).timestamp())


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, with those that overlap or touch as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _without(spans: list[tuple[int, int]], holes: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What the holes leave of the spans; both without overlap and in order."""
    at = 0
    for start, end in spans:
        while at < len(holes) and holes[at][1] <= start:
            at += 1
        begin, index = start, at
        while index < len(holes) and holes[index][0] < end:
            if holes[index][0] > begin:
                yield begin, holes[index][0]
            begin = max(begin, holes[index][1])
            index += 1
        if begin < end:
            yield begin, end


def _spans(pairs: Iterable[tuple[int, int]]) -> Spans:
    starts, ends = array("q"), array("q")
    for start, end in pairs:
        starts.append(start)
        ends.append(end)
    return Spans(starts, ends)
