"""The streaming reader of JSON, against the standard library's."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.builds.parsers import json_stream
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.json_stream import JsonReader

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


class Trickle(io.RawIOBase):
    """A file that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size = io.BytesIO(data), size

    def read(self, size: int = -1) -> bytes:
        return self.data.read(self.size)


def walk(reader):
    """Read a document by entering everything."""
    first = reader.peek()
    if first == "[":
        return [walk(reader) for _ in reader.items()]
    if first == "{":
        return {key: walk(reader) for key in reader.members()}
    return reader.value()


@settings(deadline=None)
@given(document=documents, size=st.integers(4, 50), indent=st.sampled_from([None, 1]))
def test_walking_decoding_and_skipping_agree_with_json(document, size, indent):
    data = json.dumps(document, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if b"\xed" in data:
        data = json.dumps(document, indent=indent).encode()
    assert walk(JsonReader(Trickle(data, size))) == document
    reader = JsonReader(Trickle(data, size))
    assert reader.value() == document
    reader.finish()
    reader = JsonReader(Trickle(data, size))
    reader.skip()
    reader.finish()


def test_a_large_object_is_read_for_what_is_asked_for(monkeypatch):
    monkeypatch.setattr(json_stream, "WINDOW", 16)
    document = {"keep": {"keep": [1, "é" * 50], "leave": 1}, "leave": ["x" * 100, {}]}
    reader = JsonReader(Trickle(json.dumps(document).encode(), 4))
    assert reader.value({"keep"}) == {"keep": {"keep": [1, "é" * 50]}}


@pytest.mark.parametrize(
    ("limit", "text", "reason"),
    [
        ("STEP_LIMIT", "[1, 2, 3, 4, 5, 6, 7, 8, 9]", "more than 5 values"),
        ("DEPTH_LIMIT", "[[[[[[[]]]]]]]", "more than 5 deep"),
    ],
)
def test_work_and_depth_are_bounded(monkeypatch, limit, text, reason):
    monkeypatch.setattr(json_stream, limit, 5)
    for read in (walk, JsonReader.skip):
        if limit == "STEP_LIMIT" and read is JsonReader.skip:
            continue  # plain values between brackets are passed over at once
        with pytest.raises(ReportRefused, match=reason):
            read(JsonReader(io.BytesIO(text.encode())))


def test_texts_and_lists_that_are_asked_for_are_bounded(monkeypatch):
    monkeypatch.setattr(json_stream, "WINDOW", 16)
    monkeypatch.setattr(json_stream, "STRING_LIMIT", 100)
    monkeypatch.setattr(json_stream, "ARRAY_LIMIT", 5)
    with pytest.raises(ReportRefused, match="a text is longer than 100"):
        JsonReader(Trickle(b'"' + b"x" * 500 + b'"', 32)).value()
    with pytest.raises(ReportRefused, match="a list is longer than 5"):
        JsonReader(Trickle(json.dumps(list(range(50))).encode(), 32)).value()


def test_a_refusal_names_the_line():
    text = b'{\n"a": 1,\n\n"b" 2}'
    with pytest.raises(ReportRefused) as refused:
        walk(JsonReader(Trickle(text, 4)))
    assert refused.value.line == 4
