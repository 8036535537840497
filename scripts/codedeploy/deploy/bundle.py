"""The bundle that CodeDeploy downloaded: its digest, its manifest, and the archive made from it."""

import contextlib
import hashlib
import json
import re
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    # What check_archive will want to know, where that is being found out already.
    _problems: Callable[[], list[str]] | None = field(default=None, compare=False)

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
        digest, problems = _known_digest(path, state / HASHED), None
        if not digest:
            # The first event of a deployment, which will check the archive too: that takes as long, and can
            # be done beside.
            problems = _begin(lambda: _problems_of(archive, Manifest.parse(_read_manifest(path))))
            digest = _hash(path, state / HASHED)
        key = environ.get("BUNDLE_KEY", "")
        named = HEX_NAME.fullmatch(PurePosixPath(key).name)
        if named and named["digest"] != digest:
            raise Failure(
                f"The downloaded bundle has SHA-256 {digest}, but its key is {key}: it was changed after it "
                "was published. Do not use it; build again and find out who can write to the bucket."
            )
        return cls(archive, digest, Manifest.parse(_read_manifest(path)), problems)

    @property
    def name(self) -> str:
        """The release in a few characters, for people."""
        return f"{self.manifest.version} ({self.digest[:12]})"

    def check_archive(self) -> None:
        """Raise Failure unless the archive holds exactly the manifest's files, byte for byte."""
        problems = self._problems() if self._problems else _problems_of(self.archive, self.manifest)
        if problems:
            shown = ", ".join(problems[:5]) + (", …" if len(problems) > 5 else "")
            raise Failure(
                f"{len(problems)} of the archive's files are not what the manifest says: {shown}. "
                "Deploy again; if it stays so, the bundle was not made by `manage.py bundle`."
            )


def _problems_of(archive: Path, manifest: Manifest) -> list[str]:
    """What in an archive is not as its manifest says."""
    problems = []
    raw = archive / MANIFEST
    if not raw.is_file() or raw.read_bytes() != manifest.raw:
        problems.append(f"{MANIFEST} (not the one in bundle.tar)")
    for file in manifest.files.values():
        path = archive / file.path
        if path.is_symlink() or not path.is_file():
            problems.append(f"{file.path} (missing)")
        elif path.stat().st_size != file.size or sha256(path) != file.sha256:
            problems.append(f"{file.path} (changed)")
    known = {MANIFEST, *manifest.files}
    for path in sorted(archive.rglob("*")):
        name = str(path.relative_to(archive))
        if (path.is_symlink() or not path.is_dir()) and name not in known:
            problems.append(f"{name} (not in the manifest)")
    return problems


def _begin(work: Callable[[], list[str]]) -> Callable[[], list[str]]:
    """Do something in a thread; calling what is returned waits, and returns or raises what came of it."""
    from concurrent.futures import ThreadPoolExecutor  # one event of a deployment needs it

    return ThreadPoolExecutor(max_workers=1).submit(work).result


def _known_digest(path: Path, note: Path) -> str:
    """The SHA-256 of a file from ``note``, if that was made of the very same, untouched file; else empty.

    Whoever writes to a file moves its ctime to the kernel's time; and only root writes to the note.
    """
    try:
        known = json.loads(note.read_text())
        if known["identity"] == _identity(path) and HEX_NAME.fullmatch(known["sha256"]):
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or half a one: the file itself is asked
    return ""


def _hash(path: Path, note: Path) -> str:
    """The SHA-256 of a file, which is noted for the events that follow."""
    identity = _identity(path)
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
