"""Read a bundle that somebody else made, believing nothing: every member is measured and compared."""

import hashlib
import tarfile
from dataclasses import dataclass, replace
from typing import IO, Any

from apps.errors import Invalid
from apps.releases import manifest
from apps.releases.manifest import Manifest
from apps.releases.migration_source import LIMIT as MIGRATION_LIMIT
from apps.releases.migration_source import read_steps

MEMBER_LIMIT = 20_000
CHUNK = 1 << 20  # bytes
# tarfile reads a header's extensions in one piece, as large as the header says.
READ_LIMIT = 8 << 20  # bytes


@dataclass(frozen=True)
class _Measured:
    sha256: str
    size: int
    mode: str


class _Bounded:
    """A file that refuses to be read in pieces that would fill the memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= READ_LIMIT:
            raise Invalid(f"The bundle has a header of {size:,} bytes; at most {READ_LIMIT:,} are read.")
        return self.stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def read_bundle(stream: IO[bytes]) -> Manifest:
    """Read a bundle to its end and return its manifest; raise Invalid saying what does not match.

    Every file must be listed in the manifest with its SHA-256, size and mode, every listed file must be
    there, and there may be nothing else: no links, no devices, no names that leave the bundle. What its
    migrations leave of the way back is read from their sources.
    """
    try:
        # "r:" reads plain tars only: nothing in here can unpack to more than its size on disk.
        with tarfile.open(fileobj=_Bounded(stream), mode="r:") as tar:
            document, measured, sources = _read_members(tar)
            _check_rest(stream, tar.offset)
    except (tarfile.TarError, EOFError, OverflowError, ValueError, RecursionError) as error:
        raise Invalid(f"The bundle is not a readable tar archive: {error}.") from error
    if not document:
        raise Invalid(f"The bundle has no {manifest.NAME}. Make it with `manage.py bundle`.")
    found = manifest.load(document)
    _compare(found, measured)
    return replace(found, steps=read_steps(sources))


def _read_members(
    tar: tarfile.TarFile,
) -> tuple[bytes, dict[str, _Measured], dict[tuple[str, str], bytes]]:
    """The manifest's text, every other member as measured, and the sources of the migrations."""
    document, measured = b"", dict[str, _Measured]()
    sources: dict[tuple[str, str], bytes] = {}
    count = 0
    while member := tar.next():
        count += 1
        if count > MEMBER_LIMIT:
            raise Invalid(f"The bundle has more than {MEMBER_LIMIT:,} members.")
        name = member.name
        if name in measured or (name == manifest.NAME and document):
            raise Invalid(f"The bundle has {name!r:.200} twice.")
        content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
        if content is None:
            raise Invalid(f"{name!r:.200} in the bundle is no plain file.")
        if name == manifest.NAME:
            if not 0 < member.size <= manifest.LIMIT:
                raise Invalid(f"{name} has {member.size:,} bytes; 1 to {manifest.LIMIT:,} are read.")
            document = content.read()
        elif problem := manifest.unsafe_path(name):
            raise Invalid(f"The path {name!r:.200} in the bundle {problem}.")
        else:
            if key := manifest.migration_of(name):
                # One byte more than is read tells that it is too long.
                sources[key] = content.read(MIGRATION_LIMIT + 1)
                content.seek(0)
            measured[name] = _measure(member, content)
    return document, measured, sources


def _check_rest(stream: IO[bytes], offset: int) -> None:
    """Python's tarfile ends at the first header that it cannot read, where GNU tar looks for the next one.

    What the two could see differently is refused: after the last member there may be nothing but zeros.
    """
    stream.seek(offset)
    length = 0
    while chunk := stream.read(CHUNK):
        length += len(chunk)
        if chunk.count(0) != len(chunk):
            raise Invalid(f"The bundle goes on after its last member (at byte {offset:,}).")
    if length < 2 * tarfile.BLOCKSIZE:
        raise Invalid("The bundle ends without the two empty blocks that end a tar archive.")


def _measure(member: tarfile.TarInfo, content: IO[bytes]) -> _Measured:
    digest, size = hashlib.sha256(), 0
    while chunk := content.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    if size != member.size:
        raise Invalid(f"The bundle ends within {member.name!r:.200}.")
    return _Measured(sha256=digest.hexdigest(), size=size, mode=f"{member.mode & 0o7777:04o}")


def _compare(found: Manifest, measured: dict[str, _Measured]) -> None:
    for name, what in (
        (sorted(measured.keys() - found.files.keys()), "which its manifest does not list"),
        (sorted(found.files.keys() - measured.keys()), "missing, which its manifest lists"),
    ):
        if name:
            more = f" and {len(name) - 1} more" if len(name) > 1 else ""
            raise Invalid(f"The bundle has {name[0]}{more} {what}.")
    for path, entry in found.files.items():
        is_ = measured[path]
        for part in ("sha256", "size", "mode"):
            if getattr(is_, part) != getattr(entry, part):
                raise Invalid(
                    f"{path} in the bundle does not match its manifest: its {part} is {getattr(is_, part)}, "
                    f"not {getattr(entry, part)}."
                )
