"""manage.py lint_appspec and lint_buildspec: output, exit codes, standard input, and an empty environment."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

REPOSITORY = Path(__file__).resolve().parents[2]
GOOD = "version: 0.0\nos: linux\nfiles:\n  - source: /\n    destination: /a\n"
BAD = "version: 0.0\nos: ubuntu\nfiles:\n  - source: /x\n    destination: /a\n"


def run(capsys, *arguments, command="lint_appspec"):
    """Return exit code and standard output."""
    code = 0
    try:
        call_command(command, *map(str, arguments))
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().out


def test_a_finding_is_a_line_that_editors_know(tmp_path, capsys):
    path = tmp_path / "appspec.yml"
    path.write_text(BAD)
    code, output = run(capsys, path)
    assert code == 1
    error, warning, total = output.splitlines()
    assert error.startswith(f"{path}:2:5: error: os is 'ubuntu', ")
    assert re.search(r" Mend: Write: os: linux \[os\]$", error)
    assert warning.startswith(f"{path}:4:13: warning: The source '/x' ")
    assert total == f"{path}: 1 error, 1 warning"


def test_warnings_alone_end_with_0(tmp_path, capsys):
    path = tmp_path / "appspec.yml"
    path.write_text(GOOD.replace("source: /", "source: /x"))
    assert run(capsys, path)[0] == 0
    path.write_text(GOOD)
    assert run(capsys, path) == (0, f"{path}: ok\n")


def test_json_is_one_object_per_file_and_line(tmp_path, capsys):
    for name, text in (("good.yml", GOOD), ("bad.yml", BAD)):
        (tmp_path / name).write_text(text)
    code, output = run(capsys, "--json", tmp_path / "good.yml", tmp_path / "bad.yml", tmp_path / "none.yml")
    assert code == 2
    good, bad, missing = (json.loads(line) for line in output.splitlines())
    assert good == {"file": str(tmp_path / "good.yml"), "ok": True, "errors": [], "warnings": []}
    assert list(bad) == ["file", "ok", "errors", "warnings"]
    assert not bad["ok"]
    (error,) = bad["errors"]
    assert list(error) == ["line", "column", "code", "message", "mend"]
    assert (error["line"], error["column"], error["code"]) == (2, 5, "os")
    assert bad["warnings"][0]["code"] == "source-absolute"
    assert missing["errors"][0]["code"] == "unreadable"


def test_a_file_that_cannot_be_read_ends_with_2(tmp_path, capsys):
    code, output = run(capsys, tmp_path / "none.yml", command="lint_buildspec")
    assert code == 2
    assert "The file cannot be read: No such file or directory." in output
    assert run(capsys, tmp_path)[0] == 2
    assert run(capsys, "--root", tmp_path / "none", tmp_path / "none.yml")[0] == 2


def test_a_hyphen_is_standard_input(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(BAD.encode())))
    code, output = run(capsys, "-")
    assert code == 1
    assert output.startswith("-:2:5: error: ")


def test_the_root_of_the_revision_is_looked_into(tmp_path, capsys):
    (tmp_path / "appspec.yml").write_text(GOOD + "hooks: {AfterInstall: [{location: a.sh, timeout: 9}]}\n")
    assert run(capsys, tmp_path / "appspec.yml")[0] == 0
    code, output = run(capsys, "--root", tmp_path, tmp_path / "appspec.yml")
    assert code == 1
    assert "[script-missing]" in output


def test_a_misspelt_event_is_an_error_where_the_revision_is_deployed(tmp_path, capsys):
    (tmp_path / "a.sh").touch()
    (tmp_path / "appspec.yml").write_text(GOOD + "hooks: {AfterInstal: [{location: a.sh, timeout: 9}]}\n")
    code, output = run(capsys, tmp_path / "appspec.yml")
    assert code == 0
    assert "warning: There is no lifecycle event 'AfterInstal'" in output
    code, output = run(capsys, "--root", tmp_path, tmp_path / "appspec.yml")
    assert code == 1
    assert "error: There is no lifecycle event 'AfterInstal'" in output


@pytest.mark.integration
@pytest.mark.parametrize(
    "arguments",
    [["lint_appspec", "--root", ".", "appspec.yml"], ["lint_buildspec", "--json", "buildspec.yml"]],
    ids=lambda arguments: arguments[0],
)
def test_this_repositorys_own_are_clean_in_an_empty_environment(arguments):
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=REPOSITORY,
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    own = json.loads(done.stdout) if "--json" in arguments else None
    assert done.stdout == "appspec.yml: ok\n" or own["errors"] == own["warnings"] == []
