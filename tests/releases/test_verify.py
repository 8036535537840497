"""Bundles that somebody else made: nothing in them is believed."""

import io
import tarfile

import pytest

from apps.errors import Invalid
from apps.releases import manifest
from apps.releases.verify import read_bundle
from tests.releases.trees import CONTENT, bundle_of, document_of, tar_of


def read(body: bytes) -> manifest.Manifest:
    return read_bundle(io.BytesIO(body))


def other_member(kind: bytes, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo("x")
    member.type = kind
    for name, value in fields.items():
        setattr(member, name, value)
    return member


def with_manifest(*members: tarfile.TarInfo, files: dict[str, bytes] = CONTENT) -> bytes:
    return tar_of({**files, manifest.NAME: manifest.dump(document_of(files))}, *members)


def test_a_right_bundle_is_read():
    assert read(bundle_of()).version == "1.2.3+aaaaaaaaaaaa"


def test_names_longer_than_a_header_are_read():
    files = {**CONTENT, "wheelhouse/" + "w" * 200 + ".whl": b"x"}
    assert len(read(bundle_of(files)).files) == 3


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not a readable tar"),
        (b"\0" * 10240, "no manifest.json"),
        (b"PK\x03\x04" + b"x" * 2000, "not a readable tar"),
        (bundle_of()[:700], "The bundle"),
        (bundle_of()[:-10240], "The bundle"),
        (bundle_of() + b"x" * 512, "goes on after its last member"),
        (bundle_of() + bundle_of(), "goes on after its last member"),
        (tar_of(CONTENT), "no manifest.json"),
        (tar_of({**CONTENT, manifest.NAME: b"{}"}), "schema is None"),
        (tar_of({**CONTENT, manifest.NAME: b""}), "has 0 bytes"),
        (bundle_of(commit="abc"), "commit is 'abc'"),
        (with_manifest(other_member(tarfile.SYMTYPE, linkname="/etc/passwd")), "'x' .* is no plain file"),
        (with_manifest(other_member(tarfile.LNKTYPE, linkname="manage.py")), "'x' .* is no plain file"),
        (with_manifest(other_member(tarfile.DIRTYPE)), "'x' .* is no plain file"),
        (with_manifest(other_member(tarfile.FIFOTYPE)), "'x' .* is no plain file"),
        (with_manifest(other_member(tarfile.CHRTYPE)), "'x' .* is no plain file"),
        (with_manifest(other_member(tarfile.REGTYPE)), "has x which its manifest does not list"),
        (with_manifest(other_member(tarfile.REGTYPE, name="../x")), "leaves the bundle"),
        (with_manifest(other_member(tarfile.REGTYPE, name="/x")), "is absolute"),
        (with_manifest(other_member(tarfile.REGTYPE, name="manage.py")), "'manage.py' twice"),
        (with_manifest(other_member(tarfile.REGTYPE, name="manifest.json")), "'manifest.json' twice"),
    ],
)
def test_what_is_no_bundle_is_refused(body, reason):
    with pytest.raises(Invalid, match=reason):
        read(body)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({**CONTENT, "manage.py": b"#!/usr/bin/env ruby\n  \n"}, "manage.py .* its sha256 is"),
        ({**CONTENT, "manage.py": b""}, "manage.py .* its sha256 is"),
        (
            {"requirements.txt": CONTENT["requirements.txt"]},
            "has manage.py missing, which its manifest lists",
        ),
        ({**CONTENT, "extra.py": b"", "more.py": b""}, "has extra.py and 1 more which its manifest"),
    ],
)
def test_every_file_must_be_as_the_manifest_says(members, reason):
    body = tar_of({**members, manifest.NAME: manifest.dump(document_of(CONTENT))})
    with pytest.raises(Invalid, match=reason):
        read(body)


@pytest.mark.parametrize("mode", [0o755, 0o4644, 0o666])
def test_a_mode_must_be_as_the_manifest_says(mode):
    members = {**CONTENT, manifest.NAME: manifest.dump(document_of(CONTENT))}
    with pytest.raises(Invalid, match=r"manage.py .* its mode is"):
        read(tar_of(members, modes={"manage.py": mode}))


def test_a_header_that_would_fill_the_memory_is_refused():
    huge = tarfile.TarInfo("././@PaxHeader")
    huge.type, huge.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(Invalid, match=r"header of 1,099,511,627,776 bytes"):
        read(huge.tobuf(tarfile.GNU_FORMAT) + b"\0" * 10240)


def test_a_damaged_header_in_the_middle_is_not_the_end():
    body = bytearray(bundle_of({**CONTENT, "z.py": b"x"}))
    place = body.index(b"z.py\0")
    body[place : place + 512] = b"\xff" * 512
    with pytest.raises(Invalid, match=r"goes on after its last member|not a readable tar"):
        read(bytes(body))
