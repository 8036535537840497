"""Plain cases of JUnit XML are read without expat, and to the same as by it."""

import io
import random
from encodings.aliases import aliases
from xml.parsers import expat

import pytest

from apps.builds.parsers import junit, plain_cases, xml
from apps.builds.parsers.case import Case, as_case
from apps.builds.parsers.errors import ReportRefused

PLAIN = '<testcase classname="a.B" name="t{n}" time="0.{n}"/>'
WELL_FORMED = [
    PLAIN,
    '<testcase classname="a.B" name="t{n}" time="0.{n}" />\n',
    '<testcase classname="a.B" name="t{n}" time="1"></testcase>\r\n',
    '<testcase name="t{n}" classname="C" time="2"/>',
    '<testcase classname="a" id="{n}" name="t{n}" time="1"/>',
    '<testcase classname="a" name="t{n}" time="1" file="a.py" line="{n}"/>',
    '<testcase classname="a" name="&lt;{n}&#10;" time="1"/>',
    '<testcase classname="a" name="t\n{n}" time="1"/>',
    "<testcase classname='a' name='t{n}' time='1'/>",
    '<testcase classname="ä" name="t{n}" time="1"/>',
    '<x:testcase classname="a.B" name="t{n}" time="1"/>',
    f'<testcase classname="{"L" * 4100}" name="t" time="1"/>',
    '<testcase name="t{n}"/>',
    '<testcase classname="a" name="t{n}" time="1"><skipped/></testcase>\n',
    f'<testcase classname="a" name="t" time="1"><failure>no\n<![CDATA[{PLAIN}]]></failure></testcase>',
    f"<!-- {PLAIN} -->",
    f"<![CDATA[{PLAIN}{PLAIN}]]>",
    f"<?pi {PLAIN}?>",
    f"<system-out>{PLAIN}</system-out>",
    f'<testsuite name="in{{n}}">{PLAIN}</testsuite>',
    f'<testsuite name="in{{n}}" file="b.py">{PLAIN}</testsuite>',
    "\r\n",
    "\r",
    "text &amp; more",
]
OTHERS = ["<![CDATA[", "]]>", "<!--", "-->", "<?pi ", "?>", "&", "<", '"/>', "<testsuite>", "</testsuite>"]
OTHERS += ['<testcase classname="a.B" name="', '<testcase classname="a" name="t" time="1">', "</testcase>"]
OTHERS += ['<testcase classname="a.B" name="t" time="1" time="2"/>', "<failure/>", "\x01", "\x7f", "\ud800"]
HEADS = ["", "", '<?xml version="1.0"?>\n', "\ufeff"]
HEADS += [
    f'<?xml version="1.0" encoding="{encoding}"?>' for encoding in ("utf-8", "us-ascii", "gbk", "koi8-r")
]


def read(data: bytes) -> tuple[list[Case], ReportRefused | None]:
    found: list[Case] = []
    try:
        found.extend(map(as_case, junit.cases(io.BytesIO(data))))
    except ReportRefused as error:
        return found, error
    return found, None


def document(chance: random.Random) -> bytes:
    """Plain cases among all that may stand between them, whole or damaged."""
    parts = [PLAIN]
    for number in range(chance.randrange(40)):
        kinds = OTHERS if chance.random() < 0.02 else WELL_FORMED
        part = kinds[0] if chance.random() < 0.4 else chance.choice(kinds)
        parts.append(part.replace("{n}", str(number)) * chance.choice([1, 1, 3]))
    text = f'{chance.choice(HEADS)}<testsuite xmlns:x="urn:x" name="s">{"".join(parts)}</testsuite>'
    data = bytearray(text.encode(chance.choice(["utf-8"] * 6 + ["latin-1", "utf-16"]), "replace"))
    if chance.random() < 0.2:
        at = chance.randrange(len(data))
        data[at : at + chance.randrange(3)] = chance.choice([b"", b"\0", b"<", b'"', b"\xff", b"]]>"])
    return bytes(data)


@pytest.mark.parametrize("seed", range(8))
def test_they_are_to_expat_what_they_are_without_it(seed, monkeypatch):
    chance = random.Random(seed)
    for _ in range(100):
        data = document(chance)
        monkeypatch.setattr(xml, "CHUNK", chance.choice([5, 16, 64, 300, 10_000]))
        cases, error = read(data)
        with monkeypatch.context() as by_expat:
            by_expat.setattr(plain_cases, "_plain_case", lambda names: None)
            expected, refused = read(data)
        assert cases == expected, data
        assert (error and (error.cause, error.line)) == (refused and (refused.cause, refused.line)), data
        if error and refused and error.column is not None:
            assert error.column == refused.column, data


def test_expat_is_spared_them():
    reader = junit._Reader()
    text = f'<testsuite name="s">{PLAIN * 10_000}</testsuite>'
    assert len(list(reader.read(io.BytesIO(text.encode())))) == 10_000
    assert reader.parser.CurrentByteIndex < len(text) / 5


def test_the_line_of_what_is_wrong_is_told_and_the_column_where_it_is_known(monkeypatch):
    monkeypatch.setattr(xml, "CHUNK", 200)
    on_one_line, on_lines = PLAIN * 20, f"{PLAIN}\n" * 20
    wrong = '<testcase classname="a" name="<"/></testsuite>'
    for text, place in (
        (f"<testsuite>{on_one_line}{wrong}", (1, None)),
        (f"<testsuite>{on_lines}{wrong}", (21, None)),
        (f"<testsuite>{on_lines}  <properties>\n  {wrong}", (22, 33)),
    ):
        _, error = read(text.encode())
        assert (error.line, error.column) == place, text


def test_in_whatever_encoding_expat_reads_ascii_is_ascii():
    text = "".join(chr(code) for code in range(32, 127) if chr(code) not in '<&"')
    taken = 0
    for encoding in sorted(set(aliases.values())):
        found = []
        parser = expat.ParserCreate()
        parser.StartElementHandler = lambda _, attributes, found=found: found.append(attributes["text"])
        try:
            parser.Parse(f'<?xml version="1.0" encoding="{encoding}"?><a text="{text}"/>'.encode(), True)
        except (expat.ExpatError, LookupError, ValueError):
            continue
        taken += 1
        assert found == [text], encoding
    assert taken > 20


@pytest.mark.parametrize("head", ["\ufeff", "", '<?xml version="1.0" encoding="utf-16"?>'])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_characters_whose_bytes_look_like_a_case_are_none(head, encoding, monkeypatch):
    monkeypatch.setattr(xml, "CHUNK", 300)
    real, fake = PLAIN.replace("{n}", "1"), PLAIN.replace("{n}", "10")
    text = f'{head}<testsuite name="s">{real * 3}'.encode(encoding) + fake.encode() * 20
    text += "</testsuite>".encode(encoding)
    assert "classname" not in text.decode(encoding).replace(real, "")
    found, error = read(text)
    assert ({case.name for case in found}, error) == ({"t1"}, None)
