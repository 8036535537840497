"""Make a bundle: a plain tar that is the same, bit for bit, for the same commit and the same wheels.

Its SHA-256 is the release's digest, so nothing in it may depend on when, where or by whom it was made:
names are sorted, times are the commit's, owners are 0 and modes are 0644 or 0755.
"""

import hashlib
import io
import os
import re
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apps.errors import Invalid
from apps.releases import manifest
from apps.specs.findings import ERROR
from apps.specs.lint import lint_appspec

APPSPEC = "appspec.yml"
# What ships, from the root of the repository; what is optional is left out where it does not exist.
SHIPPED = (
    APPSPEC,
    "manage.py",
    "requirements.txt",
    "pyproject.toml",
    "backend",
    "apps",
    "scripts/codedeploy",
    "scripts/provision-host",
    "scripts/host_tools",
    "infra/systemd",
)
# The embedded AWS belongs to a checkout.
NOT_SHIPPED = ("apps/sandbox",)
WHEELHOUSE = "wheelhouse"
LOCK = "requirements.txt"
ARCHIVE_COMMIT = ".archive-commit"


@dataclass(frozen=True)
class Commit:
    """The commit that a source tree is of."""

    sha: str
    at: datetime


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    path: Path
    digest: str  # SHA-256, hexadecimal
    size: int  # bytes
    document: dict[str, Any]


def make_bundle(*, root: Path, output: Path, wheelhouse: Path, service: str) -> Bundle:
    """Write the bundle of the source tree at ``root`` to ``output``, which appears complete or not at all.

    Invalid says what is missing or in the way: a file that must ship, wheels, the commit, changes that
    the commit does not have, or an appspec that CodeDeploy would refuse. OSError comes through when the
    disk is full.
    """
    commit = read_commit(root)
    sources = dict(_sources(root))
    _check_appspec(root)
    sources.update(_wheels(wheelhouse))
    contents = {path: _entry(source) for path, source in sources.items()}
    document = {
        "schema": manifest.SCHEMA,
        "service": service,
        "version": f"{_project_version(root)}+{commit.sha[:12]}",
        "commit": commit.sha,
        "committed_at": commit.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "python": manifest.this_python(),
        "lock": {"path": LOCK, "sha256": contents[LOCK]["sha256"]},
        "migrations": [{"app": app, "name": name} for app, name in _migrations(sources)],
        "files": contents,
    }
    text = manifest.dump(document)
    manifest.load(text)  # what this writes, the server must be able to read
    digest, size = _write(output, sources, document, text, mtime=int(commit.at.timestamp()))
    return Bundle(path=output, digest=digest, size=size, document=document)


def read_commit(root: Path) -> Commit:
    """The commit of a source tree: of an archive by what ``git archive`` wrote into it, else by git."""
    marker = root / ARCHIVE_COMMIT
    words = marker.read_text().split() if marker.is_file() else []
    if len(words) == 2 and re.fullmatch(r"[0-9a-f]{40}", words[0]):
        try:
            return Commit(sha=words[0], at=datetime.fromisoformat(words[1]))
        except ValueError:
            raise Invalid(f"{marker} holds {words[1]!r} where the commit's time should be.") from None
    # In a checkout the file still holds its placeholder, so git is asked.
    try:
        # A source tree that merely lies inside somebody's checkout is not of that checkout's commit.
        known = Path(_git(root, "rev-parse", "--show-toplevel")).resolve() == root.resolve()
        line = _git(root, "show", "--no-patch", "--format=%H %cI", "HEAD") if known else ""
    except (OSError, subprocess.CalledProcessError):
        line = ""
    if not line:
        raise Invalid(
            f"The commit of {root} is not known: it is no git checkout, and {ARCHIVE_COMMIT} "
            + ("still holds its placeholder" if words else "is missing or empty")
            + ". Make the source with `git archive`, or bundle in a checkout."
        )
    changed = _git(root, "status", "--porcelain", "--untracked-files=all", "--", *SHIPPED).splitlines()
    changed = [change[3:] for change in changed if not change[3:].startswith(NOT_SHIPPED)]
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise Invalid(
            "These files differ from the commit that the bundle would name: "
            f"{', '.join(changed[:5])}{more}. Commit them, or bundle what `git archive HEAD` makes."
        )
    sha, at = line.split()
    return Commit(sha=sha, at=datetime.fromisoformat(at))


def _git(root: Path, *arguments: str) -> str:
    # Inherited GIT_DIR and the like (set inside git's own hooks) would point at another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        # A checkout that another user owns (a container's volume) is only read here.
        ["git", "-c", f"safe.directory={root.resolve()}", "-C", str(root), *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    return done.stdout.rstrip("\n")


def _sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file that ships from the repository, by its path in the bundle."""
    for name in SHIPPED:
        top = root / name
        if not top.exists():
            raise Invalid(f"{name} is missing in {root}: a bundle cannot do without it.")
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            relative = path.relative_to(root)
            within = relative.as_posix()
            if "__pycache__" in relative.parts or within.endswith(".pyc"):
                continue
            if any(within == left or within.startswith(f"{left}/") for left in NOT_SHIPPED):
                continue
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise Invalid(f"{within} is not a plain file: bundles hold no links and no devices.")
            if path.is_file():
                yield within, path


def _check_appspec(root: Path) -> None:
    """Refuse what would fail only on the first host that gets it."""
    report = lint_appspec((root / APPSPEC).read_bytes(), APPSPEC, root)
    if not report.ok:
        raise Invalid(
            "CodeDeploy would fail a deployment of this bundle:\n"
            + "\n".join(finding.as_text(APPSPEC) for finding in report.of(ERROR))
        )


def _wheels(wheelhouse: Path) -> Iterator[tuple[str, Path]]:
    wheels = sorted(wheelhouse.glob("*.whl")) if wheelhouse.is_dir() else []
    if not wheels:
        raise Invalid(
            f"There are no wheels in {wheelhouse}. Fetch them first: "
            f"pip download --only-binary :all: --require-hashes -r {LOCK} -d {wheelhouse}"
        )
    for wheel in wheels:
        yield f"{WHEELHOUSE}/{wheel.name}", wheel


def _migrations(paths: Sequence[str] | dict[str, Path]) -> list[tuple[str, str]]:
    """The migrations of the apps in a bundle, read from its file names: no database, no Django."""
    return sorted(key for path in paths if (key := manifest.migration_of(path)))


def _project_version(root: Path) -> str:
    try:
        version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise Invalid(f"pyproject.toml says no [project] version: {error}.") from error
    return str(version)


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    return {
        "sha256": digest,
        "size": status.st_size,
        "mode": "0755" if status.st_mode & 0o100 else "0644",
    }


class _HashingFile(io.RawIOBase):
    """A file that hashes what passes through, so the tar is read once and never again."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self.file, self.digest, self.size = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self.file.write(data)


def _write(
    output: Path, sources: dict[str, Path], document: dict[str, Any], text: bytes, *, mtime: int
) -> tuple[str, int]:
    output.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=output.parent, prefix=".bundle-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            hashing = _HashingFile(file)
            # "|": the tar is written front to back, which is all that a hash can follow.
            with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for path in sorted([*sources, manifest.NAME]):
                    if path == manifest.NAME:
                        tar.addfile(_member(path, len(text), "0644", mtime), io.BytesIO(text))
                        continue
                    entry = document["files"][path]
                    with sources[path].open("rb") as source:
                        # A file that shrank since it was hashed makes addfile raise; one that grew is cut
                        # to the size that was hashed, and one that changed is found when it is read.
                        tar.addfile(_member(path, entry["size"], entry["mode"], mtime), source)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(output)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return hashing.digest.hexdigest(), hashing.size


def _member(path: str, size: int, mode: str, mtime: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size, member.mode, member.mtime = size, int(mode, 8), mtime
    return member
