"""Downloading a bundle and unpacking it without writing anywhere else."""

from __future__ import annotations

import posixpath
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

_BLOCK = 1 << 20


class BundleError(Exception):
    """The bundle cannot be had or unpacked; the message is what the target's diagnostics show."""


def download(s3: Any, location: dict[str, str], destination: Path) -> None:
    """Fetch the object that a revision's s3Location names, and check its eTag if the revision names one.

    Raises BundleError.
    """
    request = {"Bucket": location["bucket"], "Key": location["key"]}
    if location.get("version"):
        request["VersionId"] = location["version"]
    try:
        answer = s3.get_object(**request)
        with destination.open("wb") as file:
            for block in iter(lambda: answer["Body"].read(_BLOCK), b""):
                file.write(block)
    except ClientError as error:
        raise BundleError(str(error.response["Error"].get("Message") or error)) from None
    except BotoCoreError as error:
        raise BundleError(str(error)) from None
    except OSError as error:
        raise BundleError(f"{destination}: {error.strerror}") from None
    wanted, found = location.get("eTag"), answer["ETag"]
    if wanted and wanted.strip('"') != found.strip('"'):
        raise BundleError(f"Expected deployment artifact bundle etag {wanted} but was actually {found}")


def unpack(bundle: Path, kind: str | None, destination: Path) -> None:
    """Unpack a bundle of type tar, tgz or zip; without a type it is a tar.

    A single top folder with an appspec in it is stripped. Raises BundleError.
    """
    destination.mkdir(parents=True)
    try:
        if kind == "zip":
            _unzip(bundle, destination)
        else:
            _untar(bundle, "r:gz" if kind == "tgz" else "r:", destination)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise BundleError(f"Error extracting {kind or 'tar'} archive: {error}") from None
    except OSError as error:
        raise BundleError(f"Error extracting {kind or 'tar'} archive: {error}") from None
    _strip_top_folder(destination)


class _Guard:
    """Decides for each member of an archive whether it stays inside.

    Links are judged by their text alone, and nothing may be written through one, so the order of members and
    what already lies on the disk do not matter.
    """

    def __init__(self) -> None:
        self._links: set[PurePosixPath] = set()
        self._files: set[PurePosixPath] = set()

    def path(self, name: str) -> PurePosixPath:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise BundleError(f"The bundle's member {name!r} lies outside the bundle.")
        for parent in [path, *path.parents]:
            if parent in self._links:
                raise BundleError(f"The bundle's member {name!r} would be written through the link {parent}.")
        return path

    def file(self, path: PurePosixPath) -> None:
        self._files.add(path)

    def link(self, path: PurePosixPath, target: str) -> None:
        # posixpath.normpath takes ".." by its text, which is right here: no folder on the way may be a link.
        inside = posixpath.normpath(path.parent / target)
        if inside.startswith(("/", "..")) or not target:
            raise BundleError(f"The bundle's link {str(path)!r} points outside the bundle, to {target!r}.")
        self._links.add(path)

    def hard_link(self, path: PurePosixPath, target: str) -> None:
        if PurePosixPath(target) not in self._files:
            raise BundleError(f"The bundle's hard link {str(path)!r} names no file before it: {target!r}.")
        self._files.add(path)


def _untar(bundle: Path, mode: Any, destination: Path) -> None:
    guard = _Guard()
    folders: list[tuple[Path, int]] = []
    with tarfile.open(bundle, mode) as archive:
        for member in archive:
            path = guard.path(member.name)
            place = destination / path
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
                # Set when all is written: a folder may be read-only.
                folders.append((place, member.mode))
                continue
            _make_room(place)
            if member.issym():
                guard.link(path, member.linkname)
                place.symlink_to(member.linkname)
            elif member.islnk():
                guard.hard_link(path, member.linkname)
                place.hardlink_to(destination / member.linkname)
            elif member.isreg():
                guard.file(path)
                source = archive.extractfile(member)
                if source is None:
                    raise BundleError(f"The bundle's member {member.name!r} has no content.")
                with source, place.open("xb") as target:
                    shutil.copyfileobj(source, target, _BLOCK)
                place.chmod(stat.S_IMODE(member.mode))
            else:
                raise BundleError(f"The bundle's member {member.name!r} is a device or a pipe.")
    for folder, folder_mode in reversed(folders):
        folder.chmod(stat.S_IMODE(folder_mode))


def _unzip(bundle: Path, destination: Path) -> None:
    guard = _Guard()
    with zipfile.ZipFile(bundle) as archive:
        for member in archive.infolist():
            path = guard.path(member.filename)
            place = destination / path
            mode = member.external_attr >> 16
            if member.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            _make_room(place)
            if stat.S_ISLNK(mode):
                target = archive.read(member).decode()
                guard.link(path, target)
                place.symlink_to(target)
                continue
            if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
                raise BundleError(f"The bundle's member {member.filename!r} is a device or a pipe.")
            guard.file(path)
            with archive.open(member) as source, place.open("xb") as file:
                shutil.copyfileobj(source, file, _BLOCK)
            if stat.S_IMODE(mode):
                place.chmod(stat.S_IMODE(mode))


def _make_room(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    # Of two members with one name the last counts, as for tar.
    if place.is_symlink() or place.exists():
        place.unlink()


def _strip_top_folder(destination: Path) -> None:
    entries = list(destination.iterdir())
    if len(entries) != 1 or entries[0].is_symlink() or not entries[0].is_dir():
        return
    if any("appspec" in path.name.lower() for path in entries[0].iterdir()):
        temporary = destination.with_name("deployment-archive-temp")
        destination.rename(temporary)
        (temporary / entries[0].name).rename(destination)
        temporary.rmdir()
