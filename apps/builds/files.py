"""Read the files of one report: unpack them, recognise their format, and keep within bounds."""

import gzip
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import IO, TypeVar, cast

from apps.builds.parsers import Format, recognise
from apps.builds.parsers.case import Case, Passed
from apps.builds.parsers.errors import ReportRefused
from apps.builds.parsers.file_coverage import FileCoverage

# What one report may hold; beyond it, it is not read, and says so.
FILE_LIMIT = 10_000  # files
BYTE_LIMIT = 1 << 30  # bytes in all files together, unpacked

T = TypeVar("T")

_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


class TooMuch(ReportRefused):
    """The files of a report, or what they unpack to, are more than is read."""


class WrongFormat(ReportRefused):
    """A file is in no known format, or not in the one that it has to be in."""


class FilesReader:
    """Reads the files of one report, which are all in one format and together within BYTE_LIMIT.

    ``declared`` is the format that they have to be in, by CodeBuild's name; without, that of the first one.
    ``tick`` is called after each file, to keep the caller's lease.
    """

    def __init__(self, declared: str = "", tick: Callable[[], object] = lambda: None) -> None:
        self.declared, self.tick = declared, tick
        self.room = BYTE_LIMIT
        self.formats: set[str] = set()

    def is_coverage(self, name: str, stream: IO[bytes]) -> bool:
        """Whether a file, or the first one in it, is a coverage report; False too where it is no report."""
        try:
            with closing(self._members(name, stream)) as members:
                for member, opened in members:
                    with _telling(member):
                        return recognise(opened).is_coverage
        except ReportRefused:
            pass  # who reads it says why
        return False

    def cases(self, name: str, stream: IO[bytes]) -> Iterator[Case | Passed]:
        """The cases of a file, of a file packed with gzip, or of all files of a ZIP archive.

        Raises ReportRefused where one cannot be read on, and says which; TooMuch beyond the limits.
        """
        return self._read(name, stream, Format.found)

    def coverage(self, name: str, stream: IO[bytes]) -> Iterator[FileCoverage]:
        """The source files that a coverage report tells of, packed or not, as in ``cases``."""
        return self._read(name, stream, Format.coverage)

    def _read(
        self, name: str, stream: IO[bytes], read: Callable[[Format, IO[bytes]], Iterator[T]]
    ) -> Iterator[T]:
        if self.room <= 0:
            raise TooMuch(f"its files hold more than {BYTE_LIMIT:,} bytes")
        for member, opened in self._members(name, stream):
            with _telling(member):
                found = self._recognise(opened)
                yield from read(found, opened)
            self.tick()

    def _recognise(self, stream: IO[bytes]) -> Format:
        try:
            found = recognise(stream, self.declared)
        except ReportRefused as error:
            raise WrongFormat(str(error)) from error
        self.formats.add(found.name)
        if len(self.formats) > 1:
            # A report has one format in CodeBuild, so one of the files is none of its own.
            raise WrongFormat(f"the report has files of two formats, {' and '.join(sorted(self.formats))}")
        return found

    def _members(self, name: str, stream: IO[bytes]) -> Generator[tuple[str, IO[bytes]]]:
        head = stream.read(4)
        size = stream.seek(0, 2)
        stream.seek(0)
        if head.startswith(_GZIP):
            # A few kilobytes unpack to gigabytes, so it is watched while it is read.
            with _Unzipped(stream, self.room) as opened:
                yield name, cast("IO[bytes]", opened)
                self.room -= opened.tell()
        elif head in _ZIP or name.endswith(".zip"):
            yield from self._archived(name, stream)
        else:
            self.room -= size
            yield name, stream

    def _archived(self, name: str, stream: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
        try:
            with zipfile.ZipFile(stream) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                if len(members) > FILE_LIMIT:
                    raise TooMuch(f"{name} has more than {FILE_LIMIT:,} files")
                for member in members:
                    self.room -= member.file_size
                    if self.room < 0:
                        raise TooMuch(f"{name} unpacks to more than {BYTE_LIMIT:,} bytes")
                    # zipfile stops at the declared size, and checks the CRC there.
                    with archive.open(member) as opened:
                        yield member.filename, opened
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            # Damaged, packed in a way that zipfile does not know, or encrypted.
            raise ReportRefused(f"{name} is not a readable ZIP archive: {error}") from error


class _Unzipped(gzip.GzipFile):
    """A gzip file that refuses to unpack to more than a number of bytes."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        super().__init__(fileobj=stream, mode="rb")
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.tell() > self._limit:
            raise TooMuch(f"unpacks to more than {self._limit:,} bytes")
        return data


@contextmanager
def _telling(name: str) -> Iterator[None]:
    """Have what is refused name the file."""
    try:
        yield
    except (ReportRefused, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        kind = type(error) if isinstance(error, ReportRefused) else ReportRefused
        raise kind(f"{name}: {error}") from error
