"""The cache of a project: what a buildspec's cache paths match is kept from one build to the next.

Only what lies in the source folder is kept: a build here shares the machine with everything else, so a path
such as /root/.m2 is not its own. A cache is never a reason for a build to fail. It is saved after a build
whose commands succeeded; of one that failed AWS does not say, and it may be half-written.
https://docs.aws.amazon.com/codebuild/latest/userguide/build-caching.html
"""

import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from apps.sandbox.codebuild.files import open_regular, pattern_of
from apps.sandbox.codebuild.source import split_location

Log = Callable[[str], None]


class CacheStore(Protocol):
    """Where the archive of a project's cache lies."""

    def fetch(self, archive: Path) -> bool:
        """Get it; False where there is none."""

    def store(self, archive: Path) -> None:
        """Take it."""

    def forget(self) -> None:
        """Remove it."""


class LocalCache:
    """The cache on this machine; it outlives the sandbox, as its state folder does."""

    def __init__(self, folder: Path, project: str) -> None:
        # A project's name has no slash: CreateProject refuses it.
        self._path = folder / f"{project}.tar"

    def fetch(self, archive: Path) -> bool:
        try:
            shutil.copyfile(self._path, archive)
        except FileNotFoundError:
            return False
        return True

    def store(self, archive: Path) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place first, so that a build that restores it meanwhile reads the one before.
        beside = self._path.with_name(f".{archive.parent.name}-{self._path.name}")
        shutil.copyfile(archive, beside)
        beside.replace(self._path)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


class S3Cache:
    """The cache in a bucket, below the project's location."""

    def __init__(self, s3: Any, location: str, namespace: str) -> None:
        self._s3 = s3
        self._bucket, prefix = split_location(location)
        self._key = "/".join(part for part in (prefix.strip("/"), namespace, "cache.tar") if part)

    def fetch(self, archive: Path) -> bool:
        try:
            self._s3.download_file(self._bucket, self._key, str(archive))
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return False
            raise
        return True

    def store(self, archive: Path) -> None:
        with archive.open("rb") as stream:
            self._s3.upload_fileobj(stream, self._bucket, self._key)

    def forget(self) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=self._key)


def cache_store(settings: dict[str, Any], project: str, state_dir: Path, s3: Any) -> CacheStore | None:
    """The store that a project's settings name; None where nothing is kept."""
    if settings["type"] == "S3":
        return S3Cache(s3, settings["location"], settings.get("cacheNamespace") or project)
    if settings["type"] == "LOCAL" and "LOCAL_CUSTOM_CACHE" in settings.get("modes", []):
        return LocalCache(state_dir / "caches", project)
    return None


def restore(store: CacheStore, root: Path, scratch: Path, log: Log) -> None:
    """Put what was kept into the source folder; what the source brings itself is left alone."""
    archive = scratch / "restored-cache.tar"
    try:
        if not store.fetch(archive):
            log("No cache found")
            return
        with tarfile.open(archive) as tar:
            count = _extract(tar, root)
        log(f"Restored {count} files from the cache")
    except (OSError, tarfile.TarError, ClientError, BotoCoreError) as error:
        log(f"The cache could not be restored: {error}")
    finally:
        archive.unlink(missing_ok=True)


def save(store: CacheStore, paths: list[str], root: Path, scratch: Path, log: Log) -> None:
    """Keep what the paths match."""
    archive = scratch / "saved-cache.tar"
    try:
        count = 0
        with tarfile.open(archive, "w") as tar:
            for name, path in _matching(paths, root, log):
                count += _add(tar, name, path)
        store.store(archive)
        log(f"Saved {count} files to the cache")
    except (OSError, tarfile.TarError, ClientError, BotoCoreError) as error:
        log(f"The cache could not be saved: {error}")
    finally:
        archive.unlink(missing_ok=True)


def _matching(paths: list[str], root: Path, log: Log) -> Iterator[tuple[str, Path]]:
    patterns: list[re.Pattern[str]] = []
    for path in paths:
        inside = path.removeprefix(f"{root}/")
        if inside.startswith(("/", "~")) or ".." in PurePosixPath(inside).parts:
            log(f"Note: {path} lies outside of the source folder, so the sandbox does not cache it")
            continue
        # A folder stands for what is in it.
        patterns += [pattern_of(inside, root), pattern_of(f"{inside.rstrip('/')}/**", root)]
    for folder, folders, names in os.walk(root):
        folders.sort()
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *links]):
            found = Path(folder, name)
            relative = found.relative_to(root).as_posix()
            if any(pattern.fullmatch(relative) for pattern in patterns):
                yield relative, found


def _add(tar: tarfile.TarFile, name: str, path: Path) -> bool:
    """Add a file or a link; False for sockets, FIFOs and devices, which are left out."""
    info = tar.gettarinfo(path, name)
    if info is None or not (info.issym() or info.isfile() or info.islnk()):
        return False
    if info.issym():
        tar.addfile(info)
        return True
    info.type, info.linkname = tarfile.REGTYPE, ""
    with open_regular(path) as stream:
        info.size = os.fstat(stream.fileno()).st_size
        tar.addfile(info, stream)
    return True


def _extract(tar: tarfile.TarFile, root: Path) -> int:
    """Extract files, then links, so that nothing is written through a link of the archive's own."""
    count = 0
    members = [member for member in tar if member.isfile() or member.issym()]
    for member in sorted(members, key=tarfile.TarInfo.issym):
        name = PurePosixPath(member.name)
        target = root / name
        if name.is_absolute() or ".." in name.parts or os.path.lexists(target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(root.resolve()):
            continue  # through a link that the source brought
        if member.issym():
            target.symlink_to(member.linkname)
        else:
            source = tar.extractfile(member)
            if source is None:
                continue
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
            target.chmod(0o755 if member.mode & 0o100 else 0o644)
            # Tools compare times: a cache whose files are all new is no cache to make.
            os.utime(target, (member.mtime, member.mtime))
        count += 1
    return count
