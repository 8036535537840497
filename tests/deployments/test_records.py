"""What a host wrote is checked field by field."""

import json

import pytest

from apps.deployments.records import MAX_BYTES, Place, Unreadable, read_record

PLACE = Place("d-1", "staging-1", "web", "staging", "AfterInstall")
STEP = {"name": "release", "text": "Release", "started_s": 0, "seconds": None, "result": "running"}
MIGRATIONS = {
    "plan": ["app.0001_initial"],
    "applied": ["app.0001_initial"],
    "seconds": 0.5,
    "host": "staging-1",
    "result": "applied",
    "error": "",
}


def document(**fields):
    return {
        "schema": 1,
        **vars(PLACE),
        "digest": "a" * 64,
        "version": "1.0",
        "started_at": "2026-01-02T03:04:05.5+01:00",
        "seconds": 2,
        "exit_code": 0,
        "result": "succeeded",
        "error": "",
        "cause": None,
        "steps": [STEP],
        "tail": ["-----> Release"],
        "migrations": MIGRATIONS,
        "bundle": {"bucket": "b", "key": "k", "version": "1", "etag": "e"},
        **fields,
    }


def read(**fields):
    return read_record(json.dumps(document(**fields)).encode(), PLACE)


def test_a_good_one_is_kept_as_it_is_but_for_what_nobody_knows():
    found = read(surprise={"a": 1}, bundle={"bucket": "b", "key": "k", "version": "1", "etag": "e", "x": 1})
    assert found == document(started_at="2026-01-02T02:04:05.500000Z", seconds=2.0)


def test_what_may_be_null():
    nothing = {"digest": None, "version": None, "exit_code": None, "cause": None, "migrations": None}
    assert nothing.items() <= read(**nothing, result="running", steps=[], tail=[]).items()


def test_text_is_cut_and_stripped_of_what_postgresql_does_not_take():
    found = read(error="x" * 5000, tail=["a\0b\x1b[31m\tc", "y" * 400], cause="no-space")
    assert len(found["error"]) == 2000
    assert found["error"].endswith("…")
    assert found["tail"] == ["a\ufffdb\ufffd[31m\tc", "y" * 299 + "…"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"schema": 2}, "Its schema is 2; this version knows 1."),
        ({"deployment_id": "d-2"}, "Its deployment_id is not d-1, which its key names."),
        ({"host": "staging-2"}, "Its host is not staging-1, which its key names."),
        ({"event": None}, "Its event is not AfterInstall, which its key names."),
        ({"application": "shop"}, "Its application is not web, which its key names."),
        ({"group": ["staging"]}, "Its group is not staging, which its key names."),
        ({"digest": "A" * 64}, "Its digest does not match"),
        ({"started_at": "yesterday"}, "Its started_at is not a time as ISO 8601 writes it."),
        ({"started_at": "2026-01-02T03:04:05"}, "Its started_at has no time zone."),
        ({"started_at": "0001-01-01T00:00:00+14:00"}, "Its started_at is not a time that anybody lives in."),
        ({"seconds": -1}, "Its seconds is no number of seconds."),
        ({"seconds": 1e300}, "Its seconds is no number of seconds."),
        ({"seconds": True}, "Its seconds is not a number."),
        ({"exit_code": 0.5}, "Its exit_code is not an exit code."),
        ({"exit_code": 10**30}, "Its exit_code is not an exit code."),
        ({"result": "unreadable"}, "Its result is none of failed, running, succeeded."),
        ({"result": []}, "Its result is none of"),
        ({"error": None}, "Its error is not text."),
        ({"cause": "no space"}, "Its cause does not match"),
        ({"steps": {}}, "Its steps is not a list."),
        ({"steps": [STEP] * 201}, "Its steps has 201 items; at most 200 are read."),
        ({"steps": ["release"]}, "Its steps is not an object."),
        ({"steps": [STEP | {"seconds": "1"}]}, "Its steps has a seconds that is not a number."),
        ({"steps": [{"name": "release"}]}, "Its steps has no text."),
        ({"tail": ["x"] * 41}, "Its tail has 41 items; at most 40 are read."),
        ({"tail": [1]}, "Its tail is not text."),
        ({"migrations": []}, "Its migrations is not an object."),
        ({"migrations": MIGRATIONS | {"result": "maybe"}}, "Its migrations has a result that is none of"),
        ({"bundle": None}, "Its bundle is not an object."),
    ],
)
def test_what_does_not_fit_makes_it_unreadable(fields, why):
    with pytest.raises(Unreadable) as caught:
        read(**fields)
    assert str(caught.value).startswith(why)


def test_what_is_missing_is_named():
    for name in document():
        rest = {key: value for key, value in document().items() if key != name}
        with pytest.raises(Unreadable, match=name):
            read_record(json.dumps(rest).encode(), PLACE)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[1]",
        b"NaN",
        b'{"schema": NaN}',
        b'{"schema": "\\ud800"}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"1" * 60_000,
        b" " * (MAX_BYTES + 1),
    ],
)
def test_what_is_no_json_object(raw):
    with pytest.raises(Unreadable):
        read_record(raw, PLACE)
