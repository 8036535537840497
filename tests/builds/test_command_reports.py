"""manage.py reports parse: output, exit codes, what is no file, and an empty environment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

REPOSITORY = Path(__file__).resolve().parents[2]
GOOD = (
    '<testsuite><testcase name="a"/><testcase name="b"><failure/></testcase>'
    '<testcase name="c"><error/></testcase><testcase name="d"><skipped/></testcase></testsuite>'
)
COUNTS = {"tests": 4, "passed": 1, "failed": 1, "errors": 1, "skipped": 1}


def run(capsys, *arguments):
    """Return exit code and standard output."""
    code = 0
    try:
        call_command("reports", "parse", *map(str, arguments))
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().out


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.xml"
    path.write_text(GOOD)
    return path


def test_a_table_has_a_row_for_each_file(good, capsys):
    code, output = run(capsys, good, good)
    head, *rows = output.splitlines()
    assert code == 0
    assert head.split() == ["FORMAT", "TESTS", "PASSED", "FAILED", "ERRORS", "SKIPPED", "FILE"]
    assert [row.split() for row in rows] == [["JUNITXML", "4", "1", "1", "1", "1", str(good)]] * 2


def test_json_is_one_object_per_file_and_line(good, tmp_path, capsys):
    cut = tmp_path / "cut.xml"
    cut.write_text(GOOD[:-20])
    code, output = run(capsys, "--json", good, cut, tmp_path / "none.xml")
    assert code == 1
    first, second, third = (json.loads(line) for line in output.splitlines())
    assert first == {"file": str(good), "format": "JUNITXML", "counts": COUNTS, "warnings": []}
    assert second["counts"]["tests"] == 3
    assert second["error"].startswith("not well-formed XML: ")
    assert third == {
        "file": str(tmp_path / "none.xml"),
        "format": None,
        "warnings": [],
        "error": "No such file or directory",
    }


def test_a_refusal_names_file_cause_and_place(tmp_path, capsys):
    path = tmp_path / "cut.xml"
    path.write_text('<testsuite>\n<testcase name="a"/>\n')
    code, output = run(capsys, path)
    assert code == 1
    told = f"{path}: error: not well-formed XML: no element found (line 3, column 1); 1 test read before that"
    assert output.splitlines()[1] == told


def test_a_declared_format_is_checked(good, capsys):
    assert run(capsys, "--format", "junitxml", good)[0] == 0
    code, output = run(capsys, "--format", "TESTNGXML", good)
    assert code == 1
    assert "declared as TESTNGXML, and its content is JUNITXML" in output
    with pytest.raises(CommandError, match="invalid choice: 'XUNIT'"):
        call_command("reports", "parse", "--format", "XUNIT", str(good))


def test_what_counts_do_not_say_is_warned_of(tmp_path, capsys):
    contents = {
        "empty.xml": "<testsuite/>",
        "flaky.xml": '<testsuite><testcase name="a"><flakyFailure/></testcase></testsuite>',
        "unknown.xml": '<test-run><test-case name="a"/></test-run>',
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    code, output = run(capsys, "--json", *(tmp_path / name for name in contents))
    assert code == 0
    assert [json.loads(line)["warnings"] for line in output.splitlines()] == [
        ["it lists no test case"],
        ["1 test ran more than once, and 1 both failed and passed"],
        ["of 1 test it does not say how they ended"],
    ]


def test_folders_pipes_and_devices_are_refused_without_waiting(tmp_path, capsys):
    pipe, link = tmp_path / "pipe.xml", tmp_path / "zero.xml"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    code, output = run(capsys, "--json", tmp_path, pipe, link)
    assert code == 1
    assert [json.loads(line)["error"] for line in output.splitlines()] == [
        "it is a folder, not a file",
        "it is a pipe or a device, not a file",
        "it is a pipe or a device, not a file",
    ]


def test_a_file_that_is_too_large_is_not_read(tmp_path, capsys):
    path = tmp_path / "large.xml"
    with path.open("wb") as file:
        file.truncate(3 << 20)
    code, output = run(capsys, "--max-mib", 2, path)
    assert code == 1
    assert "it has 3,145,728 bytes, and at most 2,097,152 are read" in output
    assert "neither XML nor JSON" in run(capsys, "--max-mib", 3, path)[1]


def test_names_cannot_steer_a_terminal(tmp_path, capsys):
    path = tmp_path / "\x1b[2J.xml"
    path.write_text("<\u202etestsuite/>")
    output = run(capsys, path)[1]
    assert "\x1b" not in output
    assert "\u202e" not in output


@pytest.mark.integration
def test_it_needs_no_environment(good):
    done = subprocess.run(
        [sys.executable, "manage.py", "reports", "parse", "--json", str(good)],
        cwd=REPOSITORY,
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["counts"] == COUNTS
    assert done.stderr == ""
