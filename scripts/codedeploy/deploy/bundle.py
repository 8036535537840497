"""The bundle that CodeDeploy downloaded: its digest, its manifest, and the archive made from it."""

import contextlib
import hashlib
import json
import re
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deploy import files
from deploy.errors import Failure

SCHEMA = 1
MANIFEST = "manifest.json"
WHEELHOUSE = "wheelhouse/"
# In the host's state: which file was hashed last, and what it came to.
HASHED = "hashed.json"
# The kernel stamps files with the time of its last tick, which is up to 10 ms old; a file that was written to
# twice within a tick has the same ctime.
SETTLED_NS = 100_000_000
HEX_NAME = re.compile(r"(?P<digest>[0-9a-f]{64})(\..*)?")
NOT_OURS = "Publish the bundle with `manage.py publish` and deploy that revision, with bundleType tar."


@dataclass(frozen=True)
class File:
    """A file of the bundle as its manifest describes it; ``size`` is in bytes."""

    path: str
    sha256: str
    size: int
    mode: int


@dataclass(frozen=True)
class Python:
    """The interpreter the wheelhouse was made for."""

    version: str
    implementation: str
    abi: str
    machine: str
    libc: str


@dataclass(frozen=True)
class Manifest:
    """manifest.json, checked."""

    raw: bytes
    service: str
    version: str
    commit: str
    python: Python
    lock_path: str
    lock_sha256: str
    files: Mapping[str, File]

    @classmethod
    def parse(cls, raw: bytes) -> "Manifest":
        """Read manifest.json; raise Failure naming what is wrong with it."""
        try:
            data = json.loads(raw)
            if data["schema"] != SCHEMA:
                raise Failure(
                    f"{MANIFEST} has schema {data['schema']!r}, and these hooks know {SCHEMA}. {NOT_OURS}"
                )
            python = {name: str(data["python"][name]) for name in Python.__dataclass_fields__}
            return cls(
                raw=raw,
                service=str(data["service"]),
                version=str(data["version"]),
                commit=str(data["commit"]),
                python=Python(**python),
                lock_path=str(data["lock"]["path"]),
                lock_sha256=str(data["lock"]["sha256"]),
                files={path: _file(path, entry) for path, entry in data["files"].items()},
            )
        except KeyError as error:
            raise Failure(f"{MANIFEST} has no {error}. {NOT_OURS}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise Failure(f"{MANIFEST} cannot be read: {error}. {NOT_OURS}") from None

    def wheels(self) -> list[File]:
        return [file for path, file in self.files.items() if path.startswith(WHEELHOUSE)]

    def release_files(self) -> list[File]:
        """What a release consists of: everything but the wheels."""
        return [file for path, file in self.files.items() if not path.startswith(WHEELHOUSE)]


def _file(path: str, entry: Mapping[str, object]) -> File:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or str(parts) != path:
        raise Failure(f"{MANIFEST} names {path!r}, which is not a path inside the bundle. {NOT_OURS}")
    return File(path, str(entry["sha256"]), int(str(entry["size"])), int(str(entry["mode"]), 8))


@dataclass(frozen=True)
class Bundle:
    """A downloaded bundle and the archive CodeDeploy unpacked from it."""

    archive: Path
    digest: str
    manifest: Manifest

    @classmethod
    def load(cls, archive: Path, environ: Mapping[str, str], state: Path) -> "Bundle":
        """Find bundle.tar one folder above the archive, hash it and read its manifest.

        What an earlier event of this deployment has hashed, and noted in ``state``, is not hashed again as
        long as nothing has touched the file.

        Raises Failure when there is none, when it is not the object that the revision's key names, or
        when it is not a bundle. CodeDeploy itself compares the eTag only, and only where one was given.
        """
        path = archive.parent / "bundle.tar"
        if not path.is_file():
            raise Failure(
                f"There is no {path.name} beside the archive, so nobody can say what this revision is "
                f"(a local directory?). {NOT_OURS}"
            )
        digest = _digest_of(path, state / HASHED)
        key = environ.get("BUNDLE_KEY", "")
        named = HEX_NAME.fullmatch(PurePosixPath(key).name)
        if named and named["digest"] != digest:
            raise Failure(
                f"The downloaded bundle has SHA-256 {digest}, but its key is {key}: it was changed after it "
                "was published. Do not use it; build again and find out who can write to the bucket."
            )
        return cls(archive, digest, Manifest.parse(_read_manifest(path)))

    @property
    def name(self) -> str:
        """The release in a few characters, for people."""
        return f"{self.manifest.version} ({self.digest[:12]})"

    def check_archive(self) -> None:
        """Raise Failure unless the archive holds exactly the manifest's files, byte for byte."""
        problems = []
        manifest = self.archive / MANIFEST
        if not manifest.is_file() or manifest.read_bytes() != self.manifest.raw:
            problems.append(f"{MANIFEST} (not the one in bundle.tar)")
        for file in self.manifest.files.values():
            path = self.archive / file.path
            if path.is_symlink() or not path.is_file():
                problems.append(f"{file.path} (missing)")
            elif path.stat().st_size != file.size or sha256(path) != file.sha256:
                problems.append(f"{file.path} (changed)")
        for path in sorted(self.archive.rglob("*")):
            name = str(path.relative_to(self.archive))
            if (path.is_symlink() or not path.is_dir()) and name not in {MANIFEST, *self.manifest.files}:
                problems.append(f"{name} (not in the manifest)")
        if problems:
            shown = ", ".join(problems[:5]) + (", …" if len(problems) > 5 else "")
            raise Failure(
                f"{len(problems)} of the archive's files are not what the manifest says: {shown}. "
                "Deploy again; if it stays so, the bundle was not made by `manage.py bundle`."
            )


def _digest_of(path: Path, note: Path) -> str:
    """The SHA-256 of a file, from ``note`` where that was made of the very same, untouched file.

    Whoever writes to a file moves its ctime to the kernel's time; and only root writes to the note.
    """
    identity = _identity(path)
    try:
        known = json.loads(note.read_text())
        if known["identity"] == identity and HEX_NAME.fullmatch(known["sha256"]):
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or half a one: the file itself is asked
    settled = time.time_ns() - path.stat().st_ctime_ns > SETTLED_NS
    digest = sha256(path)
    # One that was written to meanwhile, or may be yet without its ctime showing it, is not remembered.
    if settled and _identity(path) == identity:
        with contextlib.suppress(OSError):  # a full disk costs a tenth of a second, not the deployment
            files.write_unsynced(note, json.dumps({"identity": identity, "sha256": digest}).encode())
    return digest


def _identity(path: Path) -> list[str | int]:
    about = path.stat()
    return [str(path), about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns]


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_manifest(path: Path) -> bytes:
    try:
        with tarfile.open(path, "r:") as tar:
            stream = tar.extractfile(MANIFEST)
            if stream is None:
                raise KeyError(MANIFEST)
            return stream.read()
    except tarfile.TarError as error:
        raise Failure(f"bundle.tar is not a plain tar archive ({error}). {NOT_OURS}") from None
    except KeyError:
        raise Failure(f"bundle.tar has no {MANIFEST}. {NOT_OURS}") from None
