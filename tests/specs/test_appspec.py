"""The appspec parser against the agent's own rules, and against files from the wild."""

import json

import pytest

from apps.specs.appspec import AppSpecError, parse_appspec
from tests.corpus import ABSENT, CORPUS, needs_corpus

HEADER = "version: 0.0\nos: linux\n"
# Real appspecs with the verdict of AWS's own parser; not part of the repository.


def hook(text):
    return f"{HEADER}hooks:\n  AfterInstall:\n{text}"


@pytest.mark.parametrize("version", ["0.0", "0", "0.00", "-0.0", "0,0"])
def test_versions_that_pass(version):
    assert parse_appspec(f"version: {version}\nos: linux\n").os == "linux"


@pytest.mark.parametrize("version", ['"0.0"', "1", "0.1", "0.0.", "false", "", "zero", "[0.0]"])
def test_versions_that_do_not(version):
    with pytest.raises(AppSpecError, match="invalid version value"):
        parse_appspec(f"version: {version}\nos: linux\n")


@pytest.mark.parametrize("os_name", ["ubuntu", "Linux", "", "[linux]", "true"])
def test_the_os_is_exactly_linux_or_windows(os_name):
    with pytest.raises(AppSpecError, match="unsupported operating system"):
        parse_appspec(f"version: 0.0\nos: {os_name}\n")
    assert parse_appspec("version: 0.0\nos: windows\n").os == "windows"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEADER + "hooks: &a {}\nx: *a\n", "anchor"),
        (HEADER + "x: 2024-01-01\n", "no dates, and it takes '2024-01-01'"),
        (HEADER + "x: :symbol\n", "symbol"),
        ("- version: 0.0\n", "not a mapping"),
        ("", "not a mapping"),
        ("a: b: c\n", "not YAML"),
        ("a: !ruby/object:X {}\n", "The tag !ruby/object:X is not loaded"),
        ("a: \x07\n", "not YAML"),
        (hook("    - run: a.sh\n"), "no location value"),
        (hook("    - location:\n"), "no location value"),
        (hook("    - a.sh\n"), "must be a list of maps"),
        (hook("    location: a.sh\n"), "must be a list of maps"),
        (hook("    - location: a.sh\n      timeout: 0\n"), "invalid timeout"),
        (hook("    - location: a.sh\n      timeout: soon\n"), "invalid timeout"),
        (HEADER + "hooks: [a]\n", "must be a mapping"),
        (HEADER + "files: {source: a, destination: b}\n", "files must be a list of maps"),
        (HEADER + "files:\n  - destination: /a\n", "no source file"),
        (HEADER + "files:\n  - source: a\n", "specifies only a source file"),
        (HEADER + "permissions:\n  - mode: 644\n", "no object value"),
        (HEADER + "permissions:\n  - object: /a\n    mode: 10644\n", "length of a permissions mode"),
        (HEADER + "permissions:\n  - object: /a\n    mode: 0755\n", r"invalid character \(9\)"),
        (HEADER + "permissions:\n  - object: /a\n    type: [socket]\n", "object type not supported"),
        ("version: 0.0\nos: windows\npermissions:\n  - object: /a\n", "Linux only"),
        (HEADER + "file_exists_behavior: REPLACE\n", "REPLACE"),
    ],
)
def test_what_the_agent_refuses(text, problem):
    with pytest.raises(AppSpecError, match=problem):
        parse_appspec(text)


def test_of_duplicate_keys_the_last_wins_and_unknown_ones_are_ignored():
    assert parse_appspec("os: ubuntu\nversion: 0.0\nos: linux\nfoo: 1\n").os == "linux"


def test_an_empty_mapping_counts_as_an_empty_list():
    appspec = parse_appspec(f"{HEADER}files: {{}}\npermissions: {{}}\nhooks:\n  AfterInstall: {{}}\n")
    assert (appspec.files, appspec.permissions, appspec.hooks) == ((), (), {"AfterInstall": ()})


def test_json_is_read_too():
    text = json.dumps({"version": 0.0, "os": "linux", "hooks": {"AfterInstall": [{"location": "a.sh"}]}})
    assert parse_appspec(text).hooks["AfterInstall"][0].location == "a.sh"


def test_only_the_first_document_counts():
    assert parse_appspec(f"---\n{HEADER}---\nversion: 1\n").os == "linux"


def test_a_hook_has_the_agents_defaults():
    (script,) = parse_appspec(hook("    - location: ' a.sh '\n")).hooks["AfterInstall"]
    assert (script.location, script.timeout, script.runas, script.sudo) == ("a.sh", 3600, None, False)


def test_a_timeout_is_read_as_ruby_reads_a_number():
    timeouts = ["300", "'300 seconds'", "12.9", "3,600", "1_000"]
    text = hook("".join(f"    - location: a.sh\n      timeout: {each}\n" for each in timeouts))
    assert [script.timeout for script in parse_appspec(text).hooks["AfterInstall"]] == [
        300,
        300,
        12,
        3600,
        1000,
    ]


def test_unknown_events_count_only_with_scripts():
    appspec = parse_appspec(f"{HEADER}hooks:\n  Nope: [{{location: a}}]\n  Empty: []\n  AfterInstall: []\n")
    assert appspec.unknown_events() == ["Nope"]


def corpus_files():
    expected = CORPUS / "expected.json"
    if ABSENT:
        return [pytest.param(None, None, marks=needs_corpus)]
    entries = json.loads(expected.read_text())
    return [
        pytest.param(CORPUS / name, entry["codedeploy_agent"], id=name)
        for name, entry in entries.items()
        if name.startswith("appspec")
    ]


@pytest.mark.parametrize(("path", "agent"), corpus_files())
def test_real_appspecs_are_judged_as_awss_own_parser_judges_them(path, agent):
    text = path.read_text(encoding="utf-8", errors="replace")
    if not agent["ok"]:
        with pytest.raises(AppSpecError):
            parse_appspec(text)
        return
    appspec = parse_appspec(text)
    scripts = {
        event: [[script.location, script.timeout, script.runas] for script in each]
        for event, each in appspec.hooks.items()
    }
    found = (appspec.os, len(appspec.files), len(appspec.permissions), scripts, appspec.unknown_events())
    keys = ("os", "files", "permissions", "hooks")
    assert found == (*(agent[key] for key in keys), agent.get("unknown_hooks", []))
