"""Releases share hashed static files; each has its own manifest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

from apps.errors import Invalid
from apps.rollout.static import collect_release


@pytest.fixture
def release(tmp_path, settings):
    """A function that makes a release with one stylesheet current."""
    settings.INSTALLED_APPS = ["django.contrib.staticfiles"]
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATIC_ROOT = str(tmp_path / "static")
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "backend.static.ReleaseStaticFilesStorage"},
    }

    def make(name, content):
        source = tmp_path / name / "source"
        source.mkdir(parents=True, exist_ok=True)
        (source / "site.css").write_text(content)
        settings.STATICFILES_DIRS = [str(source)]
        settings.STATIC_MANIFEST_DIR = str(tmp_path / name / ".static")

    return make


def hashed(tmp_path, name):
    """The content that a release's manifest leads to."""
    manifest = json.loads((tmp_path / name / ".static/staticfiles.json").read_text())
    return (tmp_path / "static" / manifest["paths"]["site.css"]).read_text()


def test_each_release_finds_its_own_file_whatever_was_collected_later(release, tmp_path):
    release("one", "body { color: red }")
    collect_release()
    release("two", "body { color: blue }")
    collect_release()
    # Back to the first, whose source is now older than what lies in STATIC_ROOT.
    release("one", "body { color: red }")
    collect_release()
    assert hashed(tmp_path, "one") == "body { color: red }"
    assert hashed(tmp_path, "two") == "body { color: blue }"


def test_files_that_are_served_are_not_touched_again(release, tmp_path):
    release("one", "body { color: red }")
    assert collect_release() > 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "static").iterdir()}
    assert collect_release() == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "static").iterdir()} == before


def test_remains_of_a_killed_run_are_removed(release, tmp_path):
    release("one", "body { color: red }")
    (tmp_path / "one/.static/.collect-killed/files").mkdir(parents=True)
    collect_release()
    assert {path.name for path in (tmp_path / "one/.static").iterdir()} == {
        "staticfiles.json",
        "collected.json",
    }


@pytest.fixture
def collections(monkeypatch):
    """How often files were really collected."""
    done = []

    def noting(*args, **options):
        done.append(args)
        return call_command(*args, **options)

    monkeypatch.setattr("apps.rollout.static.call_command", noting)
    return done


def test_the_same_files_are_not_collected_again(release, tmp_path, collections):
    release("one", "body { color: red }")
    collect_release()
    release("two", "body { color: red }")
    assert collect_release() == 0
    release("one", "body { color: red }")
    assert collect_release() == 0
    assert len(collections) == 1
    assert hashed(tmp_path, "two") == "body { color: red }"
    release("two", "body { color: blue }")
    assert collect_release() > 0
    assert hashed(tmp_path, "two") == "body { color: blue }"
    assert len(collections) == 2


@pytest.mark.parametrize("damage", ["missing", "cut", "of another release"])
def test_files_that_are_not_what_they_were_are_collected_again(release, tmp_path, collections, damage):
    release("one", "body { color: red }")
    collect_release()
    manifest = json.loads((tmp_path / "one/.static/staticfiles.json").read_text())
    stylesheet = tmp_path / "static" / manifest["paths"]["site.css"]
    if damage == "missing":
        stylesheet.unlink()
    elif damage == "cut":
        stylesheet.write_text("")
    else:
        release("two", "body { color: tan }")
        collect_release()  # the name without a hash is this one's now
        release("one", "body { color: red }")
    assert collect_release() > 0
    assert hashed(tmp_path, "one") == "body { color: red }"
    assert (tmp_path / "static/site.css").read_text() == "body { color: red }"


def test_a_note_that_cannot_be_read_is_no_obstacle(release, tmp_path, collections):
    release("one", "body { color: red }")
    collect_release()
    (tmp_path / "one/.static/collected.json").write_text('{"inputs": ')
    release("two", "body { color: red }")
    assert collect_release() == 0  # nothing new, though it was all made again
    assert len(collections) == 2
    assert hashed(tmp_path, "two") == "body { color: red }"


def test_settings_of_a_checkout_are_refused(release, settings):
    release("one", "")
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    with pytest.raises(Invalid, match="STATIC_FROM_SOURCE"):
        collect_release()


@pytest.mark.integration
def test_killed_at_any_file_operation_no_release_misses_a_file(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.rollout.kill_collect", tmp_path],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) > 30
    assert [kill["ended"] for kill in kills] == [False] * (len(kills) - 1) + [True]
    assert [kill for kill in kills if kill["problems"]] == []
