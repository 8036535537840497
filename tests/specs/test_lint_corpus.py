"""The linters on real files, against the verdict of AWS's own parser and against what was found by hand."""

import json
import re

import pytest

from apps.specs.lint import lint_appspec, lint_buildspec
from tests.corpus import ABSENT, CORPUS, needs_corpus

# How our findings name what the corpus lists: the code, and what of the corpus's text the message must hold.
ISSUES = [
    (r"version (?:missing|(?P<word>\S+) is not 0.0)", "version"),
    (r"agent: .* invalid version value \((?P<word>.*)\).*", "version"),
    (r"agent: .* unsupported operating system \((?P<word>.*)\)", "os"),
    (r"unknown lifecycle event (?P<word>.+)", "unknown-event"),
    (r"unknown (?:top-level|artifacts) key (?P<word>.+)", "unknown-key"),
    (r"unknown key in phase: (?P<word>.+)", "unknown-key"),
    (r"unknown phase (?P<word>.+)", "unknown-phase"),
    (r"Resources is not a list", "resources-form"),
    (r"more than one resource", "one-resource"),
    (r"(?:ECS|Lambda): (?P<word>\w+) missing", "property-missing"),
    (r"command parsed as mapping .*", "command-is-mapping"),
    (r"commands empty", "no-commands"),
    (r"(?P<word>\w+) is not a mapping", "not-a-mapping"),
]
WARNINGS = [
    (r"no timeout given", "no-timeout"),
    (r"no files section", "no-files"),
    (r"files.source starts with / .*", "source-absolute"),
    (r"ECS: ContainerPort is a string", "port-is-text"),
    (r"(?:files|hook) item key (?P<word>\w+)", "unknown-key"),
    (r"files.destination relative", "destination-relative"),
    (r"duplicate mapping key: (?P<word>\w+)", "duplicate-key"),
    (r"absolute hook location", "location-absolute"),
    (r"backslash in hook location", "location-backslash"),
    (r"runas on windows", "runas-on-windows"),
    (r"wildcard in files.source", "source-wildcard"),
    (r"env value not a string .*", "env-not-text"),
    (r"artifacts.files is a string", "files-as-text"),
    (r"commands is a string, not a list", "commands-as-text"),
    (r"null command", "empty-item"),
]


def entries(kind):
    if ABSENT:
        return [pytest.param(None, None, marks=needs_corpus)]
    expected = json.loads((CORPUS / "expected.json").read_text())
    return [
        pytest.param(CORPUS / name, entry, id=name)
        for name, entry in expected.items()
        if name.startswith(kind)
    ]


def is_found(listed, table, findings):
    for pattern, code in table:
        if match := re.fullmatch(pattern, listed):
            word = match.groupdict().get("word") or ""
            return any(each.code == code and word in each.message for each in findings)
    raise AssertionError(f"the corpus lists what no rule here is for: {listed}")


def check(report, entry):
    findings = list(report.findings)
    for listed in entry["issues"]:
        assert is_found(listed, ISSUES, findings), (listed, report.as_text())
    for listed in entry["warnings"]:
        assert is_found(listed, WARNINGS, findings), (listed, report.as_text())
    assert all(each.line >= 1 and each.column >= 1 and each.message and each.mend for each in findings)


@pytest.mark.parametrize(("path", "entry"), entries("appspec"))
def test_appspecs(path, entry):
    report = lint_appspec(path.read_bytes(), path.name)
    check(report, entry)
    if entry.get("agent_ok") is False or (entry["category"] == "unparseable" and not is_json(path)):
        assert not report.ok
    elif entry["category"] in ("ec2", "ecs", "lambda") and not entry["issues"]:
        assert report.ok, report.as_text()
    if entry.get("agent_ok"):
        assert report.ok, report.as_text()
    if entry["category"] == "not-codedeploy":
        assert not report.ok


def is_json(path):
    """Some of what the corpus's YAML parser refuses is JSON with tabs, which every reader of JSON takes."""
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(("path", "entry"), entries("buildspec"))
def test_buildspecs(path, entry):
    report = lint_buildspec(path.read_bytes(), path.name)
    check(report, entry)
    assert report.ok == (entry["category"] == "buildspec" and not entry["issues"]), report.as_text()


@needs_corpus
@pytest.mark.parametrize("name", ["appspec-yaml-bomb.yml", "appspec-yaml-recursive.yml"])
def test_hostile_appspecs_are_refused(name):
    assert not lint_appspec((CORPUS / "security" / name).read_bytes(), name).ok


@needs_corpus
def test_paths_that_leave_the_revision_are_named():
    report = lint_appspec((CORPUS / "security/appspec-path-traversal.yml").read_bytes(), "appspec.yml")
    codes = [each.code for each in report.findings]
    assert codes == ["source-outside", "destination-relative", "location-outside"]


@needs_corpus
def test_variables_that_would_bend_the_build_are_named():
    report = lint_buildspec((CORPUS / "security/buildspec-env-injection.yml").read_bytes(), "buildspec.yml")
    codes = [each.code for each in report.findings]
    assert codes == ["env-name", "env-replaces", "env-replaces", "env-reserved"]
