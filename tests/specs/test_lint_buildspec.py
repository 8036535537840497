"""One small buildspec per rule: what lint_buildspec finds, where, and how to mend it."""

import pytest

from apps.specs.lint import lint_buildspec

HEAD = "version: 0.2\n"
GOOD = HEAD + "phases:\n  build:\n    commands:\n      - make\n"


def build(*lines, **keys):
    """A buildspec with these commands, and these keys of the phase."""
    listed = "".join(f"      - {line}\n" for line in lines or ["make"])
    return (
        HEAD
        + "phases:\n  build:\n"
        + "".join(f"    {k}: {v}\n" for k, v in keys.items())
        + f"    commands:\n{listed}"
    )


def found(text):
    """What was found, as {(severity, code): finding}."""
    return {
        (each.severity, each.code): each for each in lint_buildspec(text.encode(), "buildspec.yml").findings
    }


def test_a_good_buildspec_has_no_findings():
    assert not found(GOOD)
    assert not found(
        GOOD
        + """
env:
  shell: bash
  variables: {MODE: fast}
  parameter-store: {KEY: /a/b}
  secrets-manager: {PASSWORD: "app:password"}
  exported-variables: [VERSION]
  git-credential-helper: yes
artifacts:
  files: ["**/*"]
  discard-paths: no
  secondary-artifacts: {logs: {files: [log.txt], name: logs}}
reports: {unit: {files: ["*.xml"], file-format: junitxml}}
cache: {paths: [node_modules/**/*], key: "npm-$(codebuild-hash-files package-lock.json)"}
"""
    )
    assert not found(build(**{"on-failure": "RETRY-2"}))
    assert not found(HEAD + "batch: {fast-fail: true, build-list: [{identifier: a}]}\n")


def test_merged_mappings_count_as_written_out():
    text = GOOD + "env:\n  variables: &all\n    A: x\n  parameter-store:\n    <<: *all\n    B: y\n"
    assert not found(text)


ERRORS = [
    ("empty", "", 1, "version: 0.2"),
    ("not-yaml", HEAD + "phases:\n  - a\n b: c\n", 4, "indentation"),
    ("not-json", '{"version": 0.2,, "phases": {}}', 1, "JSON"),
    ("unknown-tag", GOOD + "x: !Sub a\n", 6, "tag"),
    ("not-a-mapping", "- a\n", 1, "version"),
    ("version", "phases: {build: {commands: [a]}}\n", 1, "version: 0.2"),
    ("version", GOOD.replace("0.2", "1.0"), 1, "version: 0.2"),
    ("no-phases", HEAD, 1, "phases:"),
    ("no-phases", HEAD + "phases:\n", 2, "phases:"),
    ("unknown-key", GOOD + "artifact: {}\n", 6, "Did you mean artifacts?"),
    ("unknown-key", GOOD + "build:\n  commands: [a]\n", 6, "below phases"),
    ("unknown-key", GOOD + "variables: {A: b}\n", 6, "below env"),
    ("unknown-key", GOOD + "environment_variables: {}\n", 6, "Write env:"),
    ("unknown-key", GOOD + "Resources: {}\n", 6, "CloudFormation"),
    ("unknown-key", "name: CI\non: push\njobs: {}\n", 1, "known here"),
    ("unknown-phase", GOOD + "  test:\n    commands: [a]\n", 6, "build or post_build"),
    ("unknown-phase", GOOD + "  artifacts:\n    files: [a]\n", 6, "out of phases"),
    ("unknown-phase", GOOD + "  postbuild:\n    commands: [a]\n", 6, "Did you mean post_build?"),
    ("unknown-key", GOOD + "    post_build:\n      commands: [a]\n", 6, "to the column of build"),
    ("unknown-key", build(command="[a]"), 4, "Did you mean commands?"),
    ("unknown-key", build(runtimeversions="{python: 3.11}"), 4, "Did you mean runtime-versions?"),
    ("unknown-key", build(artifacts="{files: a}"), 4, "out of phases"),
    ("command-is-mapping", build('echo "Status: done"'), 5, "single quotes"),
    ("command-is-mapping", build("- echo"), 5, "one hyphen"),
    ("item-is-mapping", GOOD + "artifacts:\n  files:\n    - a: b\n", 8, "single quotes"),
    ("not-a-list", HEAD + "phases:\n  build:\n    commands:\n      a: b\n", 5, "list"),
    ("no-commands", HEAD + "phases:\n  build:\n    commands:\n", 4, "Add a command"),
    ("no-commands", HEAD + "phases:\n  build:\n    commands: []\n", 4, "Add a command"),
    ("no-commands", HEAD + "phases:\n  build:\n", 3, "commands:"),
    ("no-commands", HEAD + "phases:\n  build:\n    on-failure: ABORT\n", 4, "commands:"),
    ("not-a-mapping", HEAD + "phases:\n  build: make\n", 3, "commands"),
    ("not-a-mapping", HEAD + "phases: [build]\n", 2, "install"),
    ("on-failure", build(**{"on-failure": "IGNORE"}), 4, "CONTINUE"),
    ("not-a-text", build(**{"on-failure": "[ABORT]"}), 4, "one text"),
    ("not-a-mapping", GOOD + "artifacts:\n  - a.zip\n", 7, "files"),
    ("unknown-key", GOOD + "artifacts: {type: zip, files: [a]}\n", 6, "Take it away"),
    ("unknown-key", GOOD + "artifacts: {file: a, files: [a]}\n", 6, "Did you mean files?"),
    ("no-files", GOOD + "artifacts: {name: a}\n", 6, "files:"),
    ("no-files", GOOD + "reports: {unit: {file-format: JUNITXML}}\n", 6, "files:"),
    (
        "file-format",
        GOOD + "reports: {unit: {files: [a], file-format: JUNIT}}\n",
        6,
        "Did you mean JUNITXML?",
    ),
    ("file-format", GOOD + "reports: {unit: {files: [a], file-format: PDF}}\n", 6, "Convert"),
    ("unknown-key", GOOD + "reports: {unit: {files: [a], format: x}}\n", 6, "file-format"),
    ("unknown-key", GOOD + "env: {variable: {A: b}}\n", 6, "Did you mean variables?"),
    ("unknown-key", GOOD + "env: {parameter_store: {A: b}}\n", 6, "Did you mean parameter-store?"),
    ("unknown-key", GOOD + "cache: {path: [a]}\n", 6, "Did you mean paths?"),
    ("unknown-key", GOOD + "batch: {buildlist: []}\n", 6, "Did you mean build-list?"),
    ("unknown-key", GOOD + "proxy: {log: yes}\n", 6, "Did you mean logs?"),
    ("shell", GOOD + "env: {shell: zsh}\n", 6, "bash"),
    ("env-name", GOOD + "env: {variables: {A-B: c}}\n", 6, "underscores"),
    ("env-empty", GOOD + "env: {parameter-store: {A: ''}}\n", 6, "parameter"),
    ("not-a-text", GOOD + "env: {variables: {A: [b]}}\n", 6, "one text"),
    ("key-form", GOOD + "? [a, b]\n: c\n", 6, "plain key"),
]


@pytest.mark.parametrize(("code", "text", "line", "mend"), ERRORS)
def test_an_error_has_its_line_and_its_mend(code, text, line, mend):
    findings = found(text)
    assert ("error", code) in findings, findings
    first = next(each for each in lint_buildspec(text.encode()).findings if each.code == code)
    assert first.line == line
    assert mend in first.mend


WARNINGS = [
    ("version-0.1", GOOD.replace("0.2", "0.1"), 1, "version: 0.2"),
    ("duplicate-key", GOOD + "    commands: [b]\n", 6, "Keep one"),
    ("second-document", GOOD + "---\na: b\n", 6, "---"),
    ("empty-section", GOOD + "artifacts:\n", 6, "take it away"),
    ("commands-as-text", HEAD + "phases: {build: {commands: make}}\n", 2, "- 'make'"),
    ("files-as-text", GOOD + "artifacts: {files: '**/*'}\n", 6, "- '**/*'"),
    ("files-as-text", GOOD + "cache: {paths: a}\n", 6, "- 'a'"),
    ("empty-item", build("make", ""), 6, "hyphen"),
    ("runtime-versions", build(**{"runtime-versions": "{python: 3.11}"}), 4, "install"),
    ("env-not-text", GOOD + "env: {variables: {A: true}}\n", 6, 'A: "true"'),
    ("env-not-text", GOOD + "env: {variables: {A: 010}}\n", 6, 'A: "010"'),
    ("env-reserved", GOOD + "env: {variables: {CODEBUILD_SRC_DIR: x}}\n", 6, "another name"),
    ("env-replaces", GOOD + "env: {variables: {PATH: /x}}\n", 6, "export PATH"),
    ("secret-in-plain-text", GOOD + "env: {variables: {DB_PASSWORD: hunter2}}\n", 6, "secrets-manager"),
    ("secret-in-plain-text", GOOD + "env: {variables: {AWS_SECRET_ACCESS_KEY: x}}\n", 6, "secrets-manager"),
    ("exported-name", GOOD + "env: {exported-variables: 'A,B'}\n", 6, "list of names"),
    ("no-cache-paths", GOOD + "cache: {key: a}\n", 6, "paths:"),
    ("switch", GOOD + "artifacts: {files: [a], discard-paths: maybe}\n", 6, "discard-paths: yes"),
]


@pytest.mark.parametrize(("code", "text", "line", "mend"), WARNINGS)
def test_a_warning_has_its_line_and_its_mend(code, text, line, mend):
    finding = found(text)["warning", code]
    assert finding.line == line
    assert mend in finding.mend
    assert lint_buildspec(text.encode()).ok


def test_the_key_is_what_a_finding_on_a_key_points_to():
    finding = found(GOOD + "  test:\n    commands: [a]\n")["error", "unknown-phase"]
    assert (finding.line, finding.column) == (6, 3)
    finding = found(build('echo "a: b"'))["error", "command-is-mapping"]
    assert (finding.line, finding.column) == (5, 9)


def test_all_errors_are_found_and_not_the_first_alone():
    text = build("echo a: b", "echo c: d") + "artifacts: [x]\nreports: {u: {}}\n"
    codes = [each.code for each in lint_buildspec(text.encode()).findings]
    assert codes == ["command-is-mapping", "command-is-mapping", "not-a-mapping", "no-files"]
