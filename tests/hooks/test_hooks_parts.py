"""Parts of the deploy program that need no host."""

import contextlib
import hashlib
import itertools
import json
import os
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from deploy import disk, files
from deploy.bundle import HASHED, SETTLED_NS, Bundle, File
from deploy.errors import Failure
from deploy.host import Host
from deploy.platform_check import needed_glibc
from deploy.pointers import Pointers
from deploy.process import last_words, meanwhile
from deploy.service_environment import read_environment

from apps.sandbox.hosts.environment import parse_environment_file
from tests.hooks.agent import wait_until


@pytest.fixture
def host(tmp_path):
    (tmp_path / "srv/lockkeeper/state").mkdir(parents=True)
    return Host(tmp_path, {})


def names(pointers):
    return pointers.current, pointers.previous


def test_pointers_remember_the_last_release_that_was_proved(host):
    pointers = Pointers(host)
    pointers.move_to("a")
    assert names(pointers) == ("a", None)
    pointers.confirm()
    pointers.move_to("b")
    assert names(pointers) == ("b", "a")
    # b never proved itself, so the way back from c is a.
    pointers.move_to("c")
    assert names(pointers) == ("c", "a")
    pointers.confirm()
    pointers.move_to("b")
    assert names(pointers) == ("b", "c")


def test_putting_back_restores_both_pointers(host):
    pointers = Pointers(host)
    for release in ("a", "b"):
        pointers.move_to(release)
        pointers.confirm()
    pointers.move_to("c")
    pointers.put_back(pointers.unproved)
    assert names(pointers) == ("b", "a")
    assert pointers.unproved is None


def test_going_back_to_the_proved_release_leaves_nothing_to_prove(host):
    pointers = Pointers(host)
    for release in ("a", "b"):
        pointers.move_to(release)
        pointers.confirm()
    pointers.move_to("c")
    pointers.move_to("b")
    assert names(pointers) == ("b", "a")
    assert pointers.unproved is None


def test_a_move_that_was_cut_off_anywhere_is_finished_by_the_next(host, monkeypatch):
    """At each write in turn the process dies; the same move again ends as if nothing had been."""
    for survived in itertools.count():
        pointers = Pointers(host)
        for link in ("current", "previous"):
            files.point(host.home / link, None)
        for release in ("a", "b"):
            pointers.move_to(release)
            pointers.confirm()
        writes = itertools.count()

        def dying(original, survived=survived, writes=writes):
            def write(*arguments):
                if next(writes) == survived:
                    raise KeyboardInterrupt
                original(*arguments)

            return write

        with monkeypatch.context() as patch:
            patch.setattr(files, "point", dying(files.point))
            patch.setattr(files, "write_text", dying(files.write_text))
            try:
                pointers.move_to("c")
                died = False
            except KeyboardInterrupt:
                died = True
        pointers.move_to("c")
        assert names(pointers) == ("c", "b")
        assert pointers.unproved.current == "b"
        if not died:
            break
        pointers.confirm()
    assert survived == 3


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=plain", "plain"),
        ("A=two words", "two words"),
        ("A='single \\ $x'", "single \\ $x"),
        ('A="double \\" \\$x \\n"', 'double " $x \\n'),
        ("A=a\\ b", "a b"),
        ("A=postgresql://u:p%40@h/n?sslmode=require#x", "postgresql://u:p%40@h/n?sslmode=require#x"),
        ("  A = spaced  ", "spaced"),
        ("A=", ""),
        ("A='a'\"b\"c", "abc"),
        ("A='a' \"b\"", "ab"),
        ("A=pass\"word'", "pass\"word'"),
        ("A=\u2028next\x0c", "\u2028next\x0c"),
    ],
)
def test_environment_files_are_read_as_systemd_reads_them(tmp_path, line, value):
    path = tmp_path / "environment"
    path.write_text(f"# comment\n; another\n\n{line}\n")
    assert read_environment(path) == {"A": value} == parse_environment_file(path.read_text())


@pytest.mark.parametrize("line", ["no equals", "1A=x", "A='open", "A=goes on\\", "export A=x"])
def test_an_environment_file_that_cannot_be_read_names_the_line(tmp_path, line):
    path = tmp_path / "environment"
    path.write_text(f"OK=1\n{line}\n")
    with pytest.raises(Failure, match="line 2"):
        read_environment(path)


@pytest.mark.parametrize(
    ("name", "glibc"),
    [
        ("uv-1.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", (2, 17)),
        ("x-1.0-cp311-cp311-manylinux_2_34_x86_64.whl", (2, 34)),
        ("x-1.0-cp311-abi3-manylinux_2_28_x86_64.manylinux_2_17_x86_64.whl", (2, 17)),
        ("x-1.0-cp311-cp311-manylinux2014_x86_64.whl", (2, 17)),
        ("x-1.0-py3-none-any.whl", (0, 0)),
    ],
)
def test_the_glibc_that_a_wheel_needs_is_the_oldest_it_names(name, glibc):
    assert needed_glibc(File(f"wheelhouse/{name}", "", 0, 0o644)) == glibc


def test_too_little_room_is_told_with_both_numbers(tmp_path):
    with pytest.raises(Failure, match=r"has \d+ MiB free and this release needs 9000000000: free some"):
        disk.check_room(tmp_path, 9_000_000_000 * disk.MIB)


def test_the_last_words_of_a_program_are_its_exception():
    log = "Traceback (most recent call):\n  File x\nModuleNotFoundError: No module named 'x'\n[INFO] Exiting"
    assert last_words(log) == "ModuleNotFoundError: No module named 'x'"
    assert last_words("one\n\ntwo\n") == "two"
    assert last_words("") == "it printed nothing"


def test_a_host_file_that_says_too_little_is_refused(tmp_path):
    path = tmp_path / "etc/lockkeeper/host"
    path.parent.mkdir(parents=True)
    path.write_text("# written by hand\nAPPLICATION_NAME=x\nPYTHON=/usr/bin/python3\n")
    with pytest.raises(Failure, match="does not say DEPLOYMENT_GROUP_NAME, PUBLIC_URL"):
        Host.read(tmp_path)
    path.write_text("APPLICATION_NAME\n")
    with pytest.raises(Failure, match="line 1 is not KEY=value"):
        Host.read(tmp_path)
    with pytest.raises(Failure, match="prepare this host"):
        Host.read(Path("/nonexistent"))


def digest_of(folder, host):
    return Bundle.load(folder / "deployment-archive", {}, host.state).digest


@pytest.fixture
def just_downloaded(make_bundle, tmp_path):
    """A bundle where the agent puts it."""
    folder = tmp_path / "d-1"
    (folder / "deployment-archive").mkdir(parents=True)
    (folder / "bundle.tar").write_bytes(make_bundle("hashed").path.read_bytes())
    return folder


@pytest.fixture
def downloaded(just_downloaded):
    """One that has lain there for long enough to tell whether it is touched."""
    time.sleep(2 * SETTLED_NS / 1e9)
    return just_downloaded


def test_a_bundle_that_nothing_has_touched_is_hashed_once(host, downloaded):
    path, note = downloaded / "bundle.tar", host.state / HASHED
    real = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest_of(downloaded, host) == real
    # What was noted is believed, or this test could not tell.
    note.write_text(json.dumps(json.loads(note.read_text()) | {"sha256": "a" * 64}))
    assert digest_of(downloaded, host) == "a" * 64
    # The same bytes again, with the times put back: only the kernel's own time shows it.
    before = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digest_of(downloaded, host) == real


def test_a_bundle_that_has_just_been_written_is_not_remembered(host, just_downloaded):
    path = just_downloaded / "bundle.tar"
    now = path.stat().st_ctime_ns
    with patch.object(time, "time_ns", return_value=now + SETTLED_NS):
        assert digest_of(just_downloaded, host) == hashlib.sha256(path.read_bytes()).hexdigest()
        assert not (host.state / HASHED).exists()
    with patch.object(time, "time_ns", return_value=now + SETTLED_NS + 1):
        digest_of(just_downloaded, host)
        assert (host.state / HASHED).exists()


def test_a_damaged_note_of_a_hash_is_no_note(host, downloaded, subtests):
    real = hashlib.sha256((downloaded / "bundle.tar").read_bytes()).hexdigest()
    for said in ("", "[]", "{}", '{"identity": 1', "\0"):
        with subtests.test(said):
            (host.state / HASHED).write_text(said)
            assert digest_of(downloaded, host) == real


def test_a_note_that_cannot_be_written_fails_nothing(host, downloaded):
    host.state.rmdir()
    real = hashlib.sha256((downloaded / "bundle.tar").read_bytes()).hexdigest()
    assert digest_of(downloaded, host) == real


def test_a_program_runs_beside_other_work_and_is_waited_for(tmp_path):
    with meanwhile(["sh", "-c", f"sleep 0.2; touch {tmp_path}/done"], timeout_s=30) as wait:
        assert not (tmp_path / "done").exists()
        wait()
        assert (tmp_path / "done").exists()


def test_a_program_that_fails_beside_other_work_says_why():
    with (
        pytest.raises(Failure, match=r"sh failed \(exit 3\): No space left on device") as failed,
        meanwhile(["sh", "-c", "echo No space left on device; exit 3"], timeout_s=30) as wait,
    ):
        wait()
    assert failed.value.cause == "no-space"
    with (
        pytest.raises(Failure, match="`sleep 60` took longer than 0 s"),
        meanwhile(["sleep", "60"], timeout_s=0.1) as wait,
    ):
        wait()
    with pytest.raises(Failure, match="nowhere is not on this host"), meanwhile(["nowhere"], timeout_s=1):
        pass


def test_a_program_is_killed_with_the_work_that_it_runs_beside(tmp_path):
    with (
        contextlib.suppress(ZeroDivisionError),
        meanwhile(["sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 60"], timeout_s=30),
    ):
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        raise ZeroDivisionError
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
