"""Buildspecs: what is read, what is refused and where, and how public ones fare."""

import json

import pytest

from apps.specs.buildspec import BuildspecError, parse_buildspec
from tests.corpus import CORPUS, needs_corpus

GOOD = """
version: 0.2
env:
  shell: bash
  variables: {GREETING: hello, RETRIES: 3, FLAG: yes}
  parameter-store: {TOKEN: /web/token}
  exported-variables: [ANSWER]
phases:
  install:
    runtime-versions: {python: 3.11}
  build:
    on-failure: CONTINUE
    commands:
      - echo one
      - |
        echo two
        echo three
    finally: [echo done]
reports:
  unit:
    files: ["*.xml"]
    base-directory: out
    discard-paths: yes
artifacts:
  files: '**/*'
  exclude-paths: ["*.pyc"]
"""


def test_reads_every_section():
    spec = parse_buildspec(GOOD)
    assert spec.shell == "bash"
    assert spec.variables == {"GREETING": "hello", "RETRIES": "3", "FLAG": "yes"}
    assert spec.parameter_store == {"TOKEN": "/web/token"}
    assert spec.exported_variables == ["ANSWER"]
    assert spec.phases["install"].runtime_versions == {"python": "3.11"}
    assert spec.phases["build"].commands == ["echo one", "echo two\necho three\n"]
    assert spec.phases["build"].finally_ == ["echo done"]
    assert spec.phases["build"].on_failure == "CONTINUE"
    (report,) = spec.reports
    assert (report.group, report.files, report.base_directory) == ("unit", ["*.xml"], "out")
    assert report.discard_paths
    assert report.file_format == "JUNITXML"
    assert spec.artifacts.files == ["**/*"]
    assert spec.artifacts.exclude == ["*.pyc"]


def build(commands):
    return f"version: 0.2\nphases:\n  build:\n    commands:\n{commands}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a: [1", "This is not YAML"),
        ("- a", "must be a mapping"),
        ("phases: {build: {commands: [a]}}", "version is missing"),
        ("version: 0.3\nphases: {}", "unsupported version '0.3'; use 0.2 at line 1"),
        ("version: 0.2", "phases is missing"),
        (
            build("      - echo Hello: world"),
            "Expected Commands[0] to be of string type: found subkeys instead at line 5, value of the key",
        ),
        ("version: 0.2\nphases:\n  test:\n    commands: [a]", "unknown phase test in phases at line 3"),
        ("version: 0.2\nphases:\n  build:\n    command: [a]", "unknown key command in phase build at line 4"),
        ("version: 0.2\nphases:\n  build:\n    commands:\n", "phase build: commands is empty at line 4"),
        ("version: 0.2\nphases:\n  build:\n", "phase build has no commands at line 3"),
        (
            build("      - a\n    post_build:\n      commands: [b]"),
            "unknown key post_build in phase build at line 6",
        ),
        (build("      - a\nartifact: {}"), "unknown key artifact in the buildspec at line 6"),
        (build("      - a\nartifacts: {type: zip, files: a}"), "unknown key type in artifacts at line 6"),
        (build("      - a\nartifacts: [a]"), "artifacts must be a mapping of keys to values at line 6"),
        (build("      - a\nreports: {unit: {}}"), "reports/unit has no files"),
        (build("      - a\nreports: {unit: {files: a, file-format: PDF}}"), "file-format PDF is none of"),
        (
            build("      - a\n    on-failure: IGNORE"),
            "on-failure must be ABORT, CONTINUE or RETRY, not 'IGNORE'",
        ),
        (
            build("      - a\nenv: {variables: {'A-B': 1}}"),
            "'A-B' is not the name of an environment variable",
        ),
    ],
)
def test_refuses_with_the_place(text, message):
    with pytest.raises(BuildspecError) as caught:
        parse_buildspec(text)
    assert message in str(caught.value)


def corpus_cases():
    """Return (path, entry) of each public buildspec that was examined for the corpus."""
    expected = json.loads((CORPUS / "expected.json").read_text())
    return [(path, entry) for path, entry in expected.items() if path.startswith("buildspec")]


@needs_corpus
def test_judges_public_buildspecs_as_the_documentation_does():
    disagreements = []
    cases = corpus_cases()
    assert len(cases) > 200
    for path, entry in cases:
        wanted = entry["category"] == "buildspec" and not entry["issues"]
        try:
            parse_buildspec((CORPUS / path).read_text(errors="replace"))
            accepted, reason = True, ""
        except BuildspecError as error:
            accepted, reason = False, str(error)
        if accepted != wanted:
            disagreements.append((path, entry["issues"], reason))
    assert not disagreements
