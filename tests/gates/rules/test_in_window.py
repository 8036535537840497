from datetime import datetime, timedelta

from apps.gates.parameters import NoParameters
from apps.gates.rules.in_window import judge
from apps.gates.verdicts import Verdict
from tests.gates.make import NOON, facts, hours, window_fact

NIGHTS = window_fact("2026-01-01T22:00", 120, "FREQ=DAILY")


def find(*windows, at=NOON):
    return judge(facts(windows=windows), NoParameters(), at)


def test_without_windows_it_passes():
    assert find().verdict == Verdict.PASS


def test_in_a_window_it_passes_and_says_until_when():
    finding = find(NIGHTS, at=NOON + hours(10))
    assert finding.verdict == Verdict.PASS
    assert finding.sentence == "production is open until 2026-03-02 00:00 UTC."


def test_outside_it_waits_for_the_next_opening():
    finding = find(NIGHTS)
    assert finding.verdict == Verdict.WAITING_TIME
    assert finding.earliest == NOON + hours(10)
    assert finding.sentence == "production is open only in night; it opens at 2026-03-01 22:00 UTC."
    assert "operator of shop" in finding.who
    assert finding.evidence == {
        "windows": [{"window": 8, "name": "night", "kind": "allow", "open": False}],
        "opens_at": "2026-03-01T22:00:00+00:00",
    }


def test_a_deny_that_is_open_is_named_and_the_opening_after_it_counts():
    freeze = window_fact("2026-03-01T00:00", 60 * 24 * 3, kind="deny", id=9, name="spring freeze")
    finding = find(NIGHTS, freeze, at=NOON + hours(10.5))
    assert finding.verdict == Verdict.WAITING_TIME
    assert "closed by spring freeze" in finding.sentence
    assert finding.earliest == datetime.fromisoformat("2026-03-04T22:00:00+00:00")


def test_denies_alone_leave_the_rest_of_the_time_open():
    freeze = window_fact("2026-03-02T00:00", 60, kind="deny")
    assert find(freeze).verdict == Verdict.PASS
    assert find(freeze, at=NOON + hours(12.5)).earliest == NOON + hours(13)


def test_the_sentence_stays_the_same_while_it_waits():
    assert find(NIGHTS) == find(NIGHTS, at=NOON + hours(9))


def test_without_an_opening_within_a_year_waiting_does_not_help():
    over = window_fact("2025-03-01T00:00", 60)
    finding = find(over)
    assert finding.verdict == Verdict.BLOCKED
    assert finding.earliest is None
    assert "does not open again within a year" in finding.sentence


def test_a_window_that_cannot_be_read_is_inconclusive_even_beside_an_open_one():
    always = window_fact("2026-01-01T00:00", 60, "FREQ=HOURLY")
    for broken in ({"timezone": "Mars/Olympus"}, {"rrule": "FREQ=LUNAR"}, {"starts_at": "noon"}):
        finding = find(always, window_fact(kind="deny", id=9, name="moon", **broken))
        assert finding.verdict == Verdict.INCONCLUSIVE
        assert finding.sentence.startswith("The window moon cannot be read: ")
        assert finding.earliest is None


def test_what_it_promises_it_keeps():
    freeze = window_fact("2026-03-01T20:00", 180, kind="deny", id=9)
    at = find(NIGHTS, freeze).earliest
    assert find(NIGHTS, freeze, at=at).verdict == Verdict.PASS
    assert find(NIGHTS, freeze, at=at - timedelta(microseconds=1)).verdict == Verdict.WAITING_TIME
