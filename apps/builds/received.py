"""Receive report files: multipart, streamed to disk, hashed on the way, within limits."""

import hashlib
from typing import IO, Any, cast

from django.conf import settings
from django.core.exceptions import SuspiciousOperation, TooManyFilesSent
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http.multipartparser import MultiPartParser as DjangoParser
from django.http.multipartparser import MultiPartParserError
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser, DataAndFiles

from apps.errors import TooLarge

FILE_LIMIT = 256 << 20  # bytes of one file, as it is sent
REQUEST_LIMIT = 512 << 20  # bytes of a request


class ReceivedFile(TemporaryUploadedFile):
    """A file on disk, with its hash."""

    sha256: str


class ReportsParser(BaseParser):
    """A form with files. Its text fields are small, and Django bounds them."""

    media_type = "multipart/form-data"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> DataAndFiles:
        request = parser_context["request"]
        meta = {**request.META, "CONTENT_TYPE": media_type}
        length = int(meta.get("CONTENT_LENGTH") or 0)
        if length > REQUEST_LIMIT:
            raise TooLarge(f"The request has {length:,} bytes, and at most {REQUEST_LIMIT:,} are taken.")
        counted = _Counted(stream)
        try:
            form = DjangoParser(meta, cast("Any", counted), [_Receiver(request)], "utf-8")
            data, files = form.parse()
        except MultiPartParserError as error:
            raise ParseError(f"The body is no form with files: {error}") from error
        except TooManyFilesSent as error:
            raise TooLarge(
                f"At most {settings.DATA_UPLOAD_MAX_NUMBER_FILES} files are taken in one request. Put them "
                "into a ZIP archive, which may hold 10,000."
            ) from error
        except SuspiciousOperation as error:
            # Too many fields, or too large ones; Django's own words are of its settings.
            raise ParseError("The form has more, or larger, fields than a report needs.") from error
        if counted.size < length:
            # Otherwise a report of which some files are missing would count as whole.
            raise ParseError(
                f"The request broke off after {counted.size:,} of {length:,} bytes. Send it again."
            )
        return DataAndFiles(data, files)


class _Counted:
    """Counts what is read of a stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.size += len(data)
        return data


class _Receiver(FileUploadHandler):
    # With a quarter of that malloc asks the system for each piece anew, which takes half as long again.
    chunk_size = 1 << 20
    file: ReceivedFile

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        name, kind = self.file_name or "", self.content_type or ""
        self.file = ReceivedFile(name, kind, 0, self.charset, self.content_type_extra)
        self.hash = hashlib.sha256()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        if start + len(raw_data) > FILE_LIMIT:
            raise TooLarge(f"{self.file_name} has more than {FILE_LIMIT:,} bytes, and no more are taken.")
        self.hash.update(raw_data)
        self.file.write(raw_data)

    def file_complete(self, file_size: int) -> ReceivedFile:
        self.file.sha256 = self.hash.hexdigest()
        self.file.seek(0)
        self.file.size = file_size
        return self.file
