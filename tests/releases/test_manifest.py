"""Manifests: each field is checked before it is believed."""

import json

import pytest

from apps.errors import Invalid
from apps.releases import manifest
from tests.releases.trees import CONTENT, document_of


def test_what_is_dumped_can_be_loaded():
    found = manifest.load(manifest.dump(document_of(CONTENT)))
    assert (found.service, found.version, found.commit) == ("web", "1.2.3+aaaaaaaaaaaa", "a" * 40)
    assert found.committed_at.isoformat() == "2026-01-02T02:04:05+00:00"
    assert found.files["manage.py"].size == len(CONTENT["manage.py"])


RIGHT = {"sha256": "0" * 64, "size": 1, "mode": "0644"}


def entry(**fields):
    return {"files": {**document_of(CONTENT)["files"], "x": RIGHT | fields}}


def path(name):
    return {"files": {**document_of(CONTENT)["files"], name: RIGHT}}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"schema": 2}, "schema is 2; this Lockkeeper reads schema 1"),
        ({"service": "../x"}, "service is '../x'"),
        ({"service": None}, "service is None"),
        ({"version": "1" * 101}, "version is"),
        ({"commit": "abc"}, "commit is 'abc'"),
        ({"commit": "a" * 40 + "\n"}, "commit is"),
        ({"committed_at": "yesterday"}, "committed_at is 'yesterday'"),
        ({"committed_at": "2026-01-02T03:04:05"}, "with its zone"),
        ({"python": {}}, "python must be an object of"),
        ({"python": manifest.this_python() | {"abi": "cp 311"}}, "python.abi"),
        ({"migrations": None}, "migrations must be a list"),
        ({"migrations": [{"app": "a"}]}, "in migrations"),
        ({"migrations": [{"app": "a", "name": "../b"}]}, "in migrations"),
        ({"lock": {"path": "nowhere", "sha256": "0" * 64}}, "is not among its files"),
        ({"lock": {"path": ["x"], "sha256": "0" * 64}}, "is not among its files"),
        ({"lock": {"path": "requirements.txt", "sha256": "0" * 64}}, "the lock's SHA-256 differs"),
        ({"lock": "requirements.txt"}, "lock must be an object"),
        ({"files": {}}, "files must be an object"),
        (path("/etc/passwd"), "is absolute"),
        (path("a/../../b"), "leaves the bundle"),
        (path("a//b"), "leaves the bundle"),
        (path("a\nb"), "cannot be printed"),
        (path("manifest.json"), "is the manifest itself"),
        (entry(sha256="0"), "x needs sha256, size and mode"),
        (entry(size=-1), "x needs"),
        (entry(size=True), "x needs"),
        (entry(mode="4755"), "x needs"),
        (entry(more=1), "x needs"),
    ],
)
def test_a_wrong_field_is_named(fields, reason):
    with pytest.raises(Invalid, match=reason):
        manifest.load(json.dumps(document_of(CONTENT, **fields)).encode())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"schema": 1, "schema": 1}', "the same key twice"),
        (b"[]", "must hold an object"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_manifest_is_refused(text, reason):
    with pytest.raises(Invalid, match=reason):
        manifest.load(text)
