"""The one way into report readers: formats are recognised, declared ones are checked."""

import gzip
import io
import json

import pytest

from apps.builds.parsers import FORMATS, cases, coverage, recognise
from apps.builds.parsers.errors import ReportRefused

JUNIT = b'<testsuite><testcase name="t"/></testsuite>'
TRX = b'<TestRun xmlns="http://microsoft.com/schemas/VisualStudio/TeamTest/2010"/>'


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (JUNIT, "JUNITXML"),
        (b"<testsuites/>", "JUNITXML"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><!-- c --><testsuites/>', "JUNITXML"),
        ('<?xml version="1.0" encoding="utf-16"?><testsuites/>'.encode("utf-16"), "JUNITXML"),
        (b'<j:testsuite xmlns:j="urn:x"/>', "JUNITXML"),
        (b"<test-results/>", "NUNITXML"),
        (b"<test-run/>", "NUNIT3XML"),
        (b"<testng-results/>", "TESTNGXML"),
        (TRX, "VISUALSTUDIOTRX"),
        (TRX.replace(b"TestRun xmlns", b"v:TestRun xmlns:v"), "VISUALSTUDIOTRX"),
        (b'[{"uri": "a"}]', "CUCUMBERJSON"),
        ("\ufeff [".encode(), "CUCUMBERJSON"),
        (
            b'<!DOCTYPE report PUBLIC "-//JACOCO//DTD Report 1.1//EN" "report.dtd"><report name="x"/>',
            "JACOCOXML",
        ),
        (b'<coverage line-rate="1"><sources/></coverage>', "COBERTURAXML"),
        (b'<coverage generated="1"><project/></coverage>', "CLOVERXML"),
        (b"<coverage><project/></coverage>", "CLOVERXML"),
        (b'{"RSpec": {"coverage": {}}}', "SIMPLECOV"),
    ],
)
def test_the_content_tells_the_format(content, name):
    stream = io.BytesIO(b"junk" + content)
    stream.seek(4)
    assert recognise(stream) is FORMATS[name]
    assert stream.tell() == 4
    assert recognise(stream, name.lower()) is FORMATS[name]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "neither XML nor JSON"),
        (b"   \n", "neither XML nor JSON"),
        (b"<html><body/></html>", "its root <html> belongs to no known format"),
        (b"<TestRun/>", "its root <TestRun> belongs to no known format"),
        (b'<TestRun xmlns="urn:x"/>', "its root <TestRun> of urn:x belongs to no known format"),
        (b"<testsuite", "not well-formed XML"),
        (b"<!-- " + b"x" * 2_000_000, "no element begins in its first 1,048,576 bytes"),
        (b'{"examples": []}', "neither Cucumber's nor SimpleCov's"),
        (gzip.compress(JUNIT, mtime=0), "packed with gzip"),
        (b"PK\x03\x04", "packed with ZIP"),
        (b'<!DOCTYPE testsuite [<!ENTITY a "b">]><testsuite/>', "declares the entity a"),
    ],
)
def test_what_is_no_report_is_refused(content, reason):
    stream = io.BytesIO(content)
    with pytest.raises(ReportRefused, match=reason):
        recognise(stream)
    assert stream.tell() == 0


def test_a_file_that_is_not_as_declared_is_refused():
    with pytest.raises(ReportRefused, match="declared as NUNITXML, and its content is JUNITXML"):
        recognise(io.BytesIO(JUNIT), "NunitXml")
    with pytest.raises(ReportRefused, match="'XUNIT' is not one of JUNITXML, "):
        recognise(io.BytesIO(JUNIT), "XUNIT")


def test_cases_are_read_in_whatever_format():
    for content in (JUNIT, json.dumps([{"uri": "a", "elements": [{"name": "t"}]}]).encode()):
        assert [case.name for case in cases(io.BytesIO(content))] == ["t"]


def test_tests_and_coverage_are_not_mixed_up():
    with pytest.raises(ReportRefused, match=r"a test report \(JUnit XML\)"):
        list(coverage(io.BytesIO(JUNIT)))
    with pytest.raises(ReportRefused, match=r"a coverage report \(JaCoCo\)"):
        list(cases(io.BytesIO(b"<report/>")))
