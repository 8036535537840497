"""Releases share hashed static files; each has its own manifest."""

import json

import pytest

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
    assert [path.name for path in (tmp_path / "one/.static").iterdir()] == ["staticfiles.json"]


def test_settings_of_a_checkout_are_refused(release, settings):
    release("one", "")
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    with pytest.raises(Invalid, match="STATIC_FROM_SOURCE"):
        collect_release()
