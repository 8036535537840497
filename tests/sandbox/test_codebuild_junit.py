"""JUnit files as the embedded CodeBuild reads them."""

import io
import json
from collections import Counter

import pytest

from apps.sandbox.codebuild.junit import ReportFileError, parse_junit, parse_seconds
from tests.corpus import CORPUS, needs_corpus


def cases_of(xml):
    cases = []
    parse_junit(io.BytesIO(xml.encode()), cases.append)
    return cases


def test_reads_names_times_and_messages():
    cases = cases_of(
        """<testsuites><testsuite name="web">
        <testcase classname="tests.a" name="ok" time="0.25"/>
        <testcase classname="tests.a" name="bad" time="1,5"><failure message="no">trace</failure></testcase>
        <testcase classname="tests.a" name="worse"><error>boom</error></testcase>
        <testcase classname="tests.a" name="off"><skipped/></testcase>
        </testsuite></testsuites>"""
    )
    assert [(c.name, c.status, c.nanoseconds, c.message) for c in cases] == [
        ("ok", "SUCCEEDED", 250_000_000, ""),
        ("bad", "FAILED", 1_500_000_000, "no"),
        ("worse", "ERROR", 0, "boom"),
        ("off", "SKIPPED", 0, ""),
    ]
    assert {(c.prefix, c.suite) for c in cases} == {("tests.a", "web")}


def test_a_case_with_several_results_counts_once_as_the_worst():
    xml = """<testsuite><testcase name="a"><skipped/><failure message="f"/><error message="e"/></testcase>
    <testcase name="b"><rerunFailure/></testcase></testsuite>"""
    assert [(c.status, c.message) for c in cases_of(xml)] == [("ERROR", "e"), ("SUCCEEDED", "")]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("1.5", 1_500_000_000), ("1,234.5", 1_234_500_000_000), ("0,12", 120_000_000)]
    + [(text, 0) for text in ("", "n/a", "-1", "inf", "nan", "1e300")],
)
def test_times_are_read_leniently(text, nanoseconds):
    assert parse_seconds(text) == nanoseconds


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("", "no element found at line 1"),
        ("<testsuite><testcase>", "not well-formed XML"),
        ("<report/>", "the root element is <report>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><testsuite name="&b;"/>', "declares the entity b"),
        ('<!DOCTYPE a [<!ENTITY % b SYSTEM "file:///etc/passwd"> %b;]><testsuite/>', "declares the entity b"),
        ('<?xml version="1.0" encoding="no-such"?><testsuite/>', "not readable XML"),
    ],
)
def test_refuses_what_is_not_junit(xml, message):
    with pytest.raises(ReportFileError) as caught:
        cases_of(xml)
    assert message in str(caught.value)


def test_a_doctype_without_entities_is_read():
    assert cases_of('<!DOCTYPE testsuite SYSTEM "junit.dtd"><testsuite><testcase name="a"/></testsuite>')


@needs_corpus
def test_counts_public_reports_as_independent_parsers_do():
    differing, read = [], 0
    for path, entry in json.loads((CORPUS / "expected.json").read_text()).items():
        if not path.startswith("junit/") or entry["confidence"] != "exact":
            continue
        counted = Counter()
        with (CORPUS / path).open("rb") as stream:
            parse_junit(stream, lambda case, counted=counted: counted.update([case.status]))
        got = {
            "errors": counted["ERROR"],
            "failed": counted["FAILED"],
            "passed": counted["SUCCEEDED"],
            "skipped": counted["SKIPPED"],
            "tests": counted.total(),
        }
        read += 1
        if got != entry["counts"]:
            differing.append((path, got, entry["counts"]))
    assert read > 100
    assert not differing
