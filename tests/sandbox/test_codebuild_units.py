"""Parts of the embedded CodeBuild that need no server."""

import io
import os
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from apps.sandbox.codebuild.cache import restore
from apps.sandbox.codebuild.environment import base_environment, build_path
from apps.sandbox.codebuild.files import open_regular, select_files
from apps.sandbox.codebuild.paging import page
from apps.sandbox.codebuild.shell import BuildShell, Interrupted
from apps.sandbox.codebuild.source import unpack
from apps.sandbox.processes import descendants
from apps.sandbox.protocol import AwsError
from apps.specs.buildspec import FileSet


@pytest.fixture
def shell(tmp_path):
    """Start a shell with its output in output.txt: `shell(seconds=…)`."""
    started = []

    def start(seconds=30.0, shell="/bin/sh"):
        with (tmp_path / "output.txt").open("ab") as output:
            running = BuildShell(
                shell,
                control=tmp_path / f"control-{len(started)}",
                cwd=tmp_path,
                env={"PATH": os.environ["PATH"], "GIVEN": "1"},
                output=output,
                stopped=threading.Event(),
                deadline=time.monotonic() + seconds,
            )
        started.append(running)
        return running

    yield start
    for running in started:
        running.close()


@pytest.mark.integration
def test_a_command_out_of_time_is_interrupted_and_gone(shell):
    before = set(descendants(os.getpid()))
    running = shell(seconds=0.5)
    with pytest.raises(Interrupted) as caught:
        running.run("sleep 1000 & sleep 1000")
    assert caught.value.status == "TIMED_OUT"
    assert set(descendants(os.getpid())) <= before


@pytest.mark.integration
def test_a_stopped_command_is_interrupted(shell):
    running = shell()
    running.stopped.set()
    with pytest.raises(Interrupted) as caught:
        running.run("sleep 1000")
    assert caught.value.status == "STOPPED"


@pytest.mark.integration
@pytest.mark.parametrize("path", ["/bin/sh", "/bin/bash"])
def test_exit_codes_and_a_trap_of_the_builds_own(shell, path, tmp_path):
    running = shell(shell=path)
    assert running.run("true") == 0
    assert running.run("(exit 3)") == 3
    assert running.run("set -eu; export KEPT=1") == 0
    assert running.run("trap 'echo mine' EXIT; exit 4") == 4
    assert running.run('echo "$KEPT $GIVEN"; unset GIVEN') == 0
    assert running.run("kill -9 $$") == 137
    assert running.run('echo "${GIVEN-gone}"') == 0
    assert (tmp_path / "output.txt").read_text().splitlines()[:2] == ["mine", "1 1"]
    assert "gone" in (tmp_path / "output.txt").read_text()


@pytest.mark.integration
def test_path_and_reserved_names_may_change_without_harm(shell):
    running = shell()
    assert running.run("export PATH=/nowhere A='x\ny' IFS=:") == 0
    assert running.run("exit 1") == 1
    assert running.run("/usr/bin/test \"$A\" = 'x\ny' && /usr/bin/test $PATH = /nowhere") == 0
    assert running.environment()["A"] == "x\ny"


def test_environment_passes_package_settings_and_nothing_else(tmp_path):
    inherited = {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin",
        "PIP_INDEX_URL": "https://packages.example/simple",
        "UV_PUBLISH_TOKEN": "secret",
        "UV_PROJECT_ENVIRONMENT": "/x",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "SECRET_KEY": "secret",
        "https_proxy": "http://proxy.example:3128",
        "no_proxy": "example.com",
    }
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text("")
    env = base_environment(inherited, Path("/build/home"), Path("/tmp/x"))
    assert env["PIP_INDEX_URL"] == "https://packages.example/simple"
    assert env["PIP_CONFIG_FILE"] == str(tmp_path / ".config/pip/pip.conf")
    assert env["https_proxy"] == "http://proxy.example:3128"
    assert env["no_proxy"] == "example.com,127.0.0.1,localhost"
    assert env["HOME"] == "/build/home"
    assert "secret" not in env.values()
    assert "UV_PROJECT_ENVIRONMENT" not in env


def test_path_leaves_out_the_own_virtual_environment(monkeypatch):
    monkeypatch.setattr("sys.prefix", "/srv/app/.venv")
    monkeypatch.setattr("sys.base_prefix", "/opt/python")
    assert build_path("/srv/app/.venv/bin:/shims:/usr/bin").split(":")[:3] == [
        "/opt/python/bin",
        "/shims",
        "/usr/bin",
    ]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**/*", ["a.xml", "b/c.xml", "b/d/e.xml", "b/d/f.txt"]),
        ("**/*.xml", ["a.xml", "b/c.xml", "b/d/e.xml"]),
        ("*.xml", ["a.xml"]),
        ("./a.xml", ["a.xml"]),
        ("b/*", ["b/c.xml"]),
        ("b/**", ["b/c.xml", "b/d/e.xml", "b/d/f.txt"]),
        ("b/**/e.xml", ["b/d/e.xml"]),
        ("b/?/[!f]*", ["b/d/e.xml"]),
        ("../*", []),
        ("a+xml", []),
    ],
)
def test_patterns_match_as_codebuild_documents(tmp_path, pattern, names):
    for name in ("a.xml", "b/c.xml", "b/d/e.xml", "b/d/f.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    found = select_files(tmp_path, FileSet(files=[pattern]), lambda text: None)
    assert [name for name, _ in found] == names


def test_links_fifos_and_devices_are_not_opened(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "link", tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"regular file|symbolic links|directory"):
            open_regular(path)


def archive_with_link(path, *links):
    with zipfile.ZipFile(path, "w") as archive:
        for name, to in links:
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, to)
        archive.writestr("file", "x")


def test_links_within_a_source_are_kept_and_others_refused(tmp_path):
    archive_with_link(tmp_path / "good.zip", ("link", "file"))
    unpack(tmp_path / "good.zip", tmp_path / "good")
    assert (tmp_path / "good/link").read_text() == "x"
    for number, links in enumerate(([("a", "/etc")], [("a", "../x")], [("a", "b/../../x"), ("b", "c/d")])):
        archive_with_link(tmp_path / f"{number}.zip", *links)
        with pytest.raises(zipfile.BadZipFile, match="outside the archive"):
            unpack(tmp_path / f"{number}.zip", tmp_path / str(number))


def test_pages_have_tokens_that_cannot_be_made_up():
    items = list(range(250))
    first, token = page(items, None)
    second, token = page(items, token)
    third, last = page(items, token)
    assert first + second + third == items
    assert last is None
    for bad in ("x", "-", "ÿ"):
        with pytest.raises(AwsError, match="Invalid next token"):
            page(items, bad)


class Archive:
    """A store of a cache that holds this archive."""

    def __init__(self, path):
        self.path = path

    def fetch(self, archive):
        archive.write_bytes(self.path.read_bytes())
        return True


def test_a_cache_is_restored_into_the_source_folder_and_nowhere_else(tmp_path):
    source, outside = tmp_path / "src", tmp_path / "outside"
    for folder in (source, outside, tmp_path / "scratch"):
        folder.mkdir()
    (source / "door").symlink_to(outside)
    (source / "own").write_text("the source's")
    with tarfile.open(tmp_path / "cache.tar", "w") as tar:
        for name, link in (
            ("deep/file", ""),
            ("own", ""),
            ("../up", ""),
            ("/tmp/absolute-of-a-cache", ""),
            ("door/file", ""),
            ("window", str(outside)),
            ("window/file", ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
            info.size = 0 if link else 1
            tar.addfile(info, io.BytesIO(b"x"))
    log = []
    restore(Archive(tmp_path / "cache.tar"), source, tmp_path / "scratch", log.append)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "cache.tar",
        "outside",
        "scratch",
        "src",
        "src/deep",
        "src/deep/file",
        "src/door",
        "src/own",
        "src/window",
        "src/window/file",
    ]
    assert (source / "own").read_text() == "the source's"
    assert not (source / "window").is_symlink()  # files come first, links never over them
    assert not Path("/tmp/absolute-of-a-cache").exists()
    assert log == ["Restored 2 files from the cache"]
