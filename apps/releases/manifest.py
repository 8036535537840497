"""manifest.json: what a bundle says of itself, and the rules that it must keep."""

import json
import platform
import re
import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apps.errors import Invalid
from apps.releases.migration_source import Step

NAME = "manifest.json"
SCHEMA = 1
# A manifest lists a few hundred files; one of this size would be an attack on memory.
LIMIT = 4 * 1024 * 1024  # bytes
MODES = {"0644", "0755"}


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle as the manifest describes it."""

    sha256: str
    size: int  # bytes
    mode: str  # "0644" or "0755"


@dataclass(frozen=True)
class Manifest:
    """A manifest whose every field has been checked; ``document`` is the whole of it, for keeping."""

    service: str
    version: str
    commit: str
    committed_at: datetime
    files: dict[str, FileEntry]
    document: dict[str, Any]
    # The release's migrations as the bundle's own files tell; apps.releases.verify reads them.
    steps: list[Step] = field(default_factory=list)


def migration_of(path: str) -> tuple[str, str] | None:
    """App and name of the migration that a file of a bundle is; None for any other file."""
    match = re.fullmatch(r"apps/(\w+)/migrations/(\d{4}_\w+)\.py", path)
    return (match[1], match[2]) if match else None


def this_python() -> dict[str, str]:
    """The interpreter and the C library that a bundle's wheels were fetched for."""
    libc, libc_version = platform.libc_ver()
    return {
        "version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "implementation": sys.implementation.name,
        "abi": f"cp{sys.version_info.major}{sys.version_info.minor}",
        "machine": platform.machine(),
        "libc": libc or "unknown",
        "libc_version": libc_version or "unknown",
    }


def dump(document: dict[str, Any]) -> bytes:
    """A manifest's text, the same for the same content."""
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def load(data: bytes) -> Manifest:
    """Read and check a manifest; raise Invalid saying which field is wrong and how."""
    try:
        document = json.loads(data, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{NAME} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Invalid(f"{NAME} must hold an object, not {type(document).__name__}.")
    if document.get("schema") != SCHEMA:
        raise Invalid(
            f"{NAME}: schema is {document.get('schema')!r}; this Lockkeeper reads schema {SCHEMA}. "
            "Bundle with a release of the same age."
        )
    for name in ("version", "service"):
        _text(document, name, r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,99}")
    _text(document, "commit", r"[0-9a-f]{40}")
    _checked_python(document)
    _checked_migrations(document)
    files = _checked_files(document)
    lock = document.get("lock")
    if not isinstance(lock, dict) or set(lock) != {"path", "sha256"}:
        raise Invalid(f"{NAME}: lock must be an object of path and sha256.")
    if not isinstance(lock["path"], str) or lock["path"] not in files:
        raise Invalid(f"{NAME}: the lock {lock['path']!r} is not among its files.")
    if files[lock["path"]].sha256 != lock["sha256"]:
        raise Invalid(f"{NAME}: the lock's SHA-256 differs from that of {lock['path']} in its files.")
    return Manifest(
        service=document["service"],
        version=document["version"],
        commit=document["commit"],
        committed_at=_checked_time(document),
        files=files,
        document=document,
    )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _text(document: dict[str, Any], name: str, pattern: str) -> None:
    value = document.get(name)
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise Invalid(f"{NAME}: {name} is {value!r:.120}, which is not of the form {pattern}.")


def _checked_time(document: dict[str, Any]) -> datetime:
    value = document.get("committed_at")
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Invalid(f"{NAME}: committed_at is {value!r:.60}, which is not an ISO 8601 time with its zone.")
    return moment


def _checked_python(document: dict[str, Any]) -> None:
    python = document.get("python")
    expected = set(this_python())
    if not isinstance(python, dict) or set(python) != expected:
        raise Invalid(f"{NAME}: python must be an object of {', '.join(sorted(expected))}.")
    for name, value in python.items():
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", value):
            raise Invalid(f"{NAME}: python.{name} is {value!r:.60}, which is not a short word.")


def _checked_migrations(document: dict[str, Any]) -> None:
    migrations = document.get("migrations")
    if not isinstance(migrations, list):
        raise Invalid(f"{NAME}: migrations must be a list.")
    for item in migrations:
        fits = isinstance(item, dict) and set(item) == {"app", "name"}
        if not fits or not all(isinstance(v, str) and re.fullmatch(r"\w{1,200}", v) for v in item.values()):
            raise Invalid(f"{NAME}: {item!r:.120} in migrations is not an object of app and name.")


def _checked_files(document: dict[str, Any]) -> dict[str, FileEntry]:
    files = document.get("files")
    if not isinstance(files, dict) or not files:
        raise Invalid(f"{NAME}: files must be an object with an entry for each file.")
    found = {}
    for path, item in files.items():
        if problem := unsafe_path(path):
            raise Invalid(f"{NAME}: the path {path!r:.200} {problem}.")
        fits = (
            isinstance(item, dict)
            and set(item) == {"sha256", "size", "mode"}
            and isinstance(item["sha256"], str)
            and re.fullmatch(r"[0-9a-f]{64}", item["sha256"])
            and isinstance(item["size"], int)
            and not isinstance(item["size"], bool)
            and item["size"] >= 0
            and item["mode"] in MODES
        )
        if not fits:
            raise Invalid(f"{NAME}: {path} needs sha256, size and mode (0644 or 0755), not {item!r:.200}.")
        found[path] = FileEntry(sha256=item["sha256"], size=item["size"], mode=item["mode"])
    return found


def unsafe_path(path: str) -> str:
    """Why a path may not be in a bundle, as the end of a sentence; empty when it may."""
    if path.startswith("/"):
        return "is absolute"
    if any(part in {"", ".", ".."} for part in path.split("/")):
        return "leaves the bundle or is not in its simplest form"
    if not path.isprintable() or "\\" in path:
        return "holds characters that cannot be printed"
    if path == NAME:
        return "is the manifest itself"
    return ""
