"""What release a process says it is."""

import json

import pytest
from django.core.exceptions import ImproperlyConfigured

from apps.rollout.version import Release, read_release

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_deployed_release_is_what_its_file_says(tmp_path):
    about = {"digest": "d" * 64, "version": "1.2+abc", "commit": COMMIT}
    (tmp_path / "release.json").write_text(json.dumps(about))
    assert read_release(tmp_path) == Release("d" * 64, "1.2+abc", COMMIT)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"digest": "d"}'])
def test_a_damaged_release_file_stops_the_process(tmp_path, content):
    (tmp_path / "release.json").write_text(content)
    with pytest.raises(ImproperlyConfigured, match=r"release\.json does not say"):
        read_release(tmp_path)


def test_a_checkout_has_no_digest_but_a_version_and_a_commit(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "3.4"\n')
    heads = tmp_path / ".git/refs/heads"
    heads.mkdir(parents=True)
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (heads / "main").write_text(f"{COMMIT}\n")
    assert read_release(tmp_path) == Release(None, "3.4", COMMIT)


def test_a_packed_reference_is_found(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / ".git/packed-refs").write_text(
        f"# pack-refs with: peeled\n{'f' * 40} refs/heads/domain\n{COMMIT} refs/heads/main\n"
    )
    assert read_release(tmp_path).commit == COMMIT


def test_a_detached_head_is_the_commit(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/HEAD").write_text(f"{COMMIT}\n")
    assert read_release(tmp_path).commit == COMMIT


def test_a_folder_that_is_neither_says_nothing(tmp_path):
    assert read_release(tmp_path) == Release(None, None, None)
