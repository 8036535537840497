"""Get a build's source: a ZIP archive in S3, unpacked, and the buildspec in it."""

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from apps.specs.buildspec import BuildspecError
from apps.specs.document import MAX_BYTES


class SourceError(Exception):
    """The source cannot be had; `code` is the phase's status code."""

    def __init__(self, message: str, code: str = "CLIENT_ERROR") -> None:
        super().__init__(message)
        self.code = code


def split_location(location: str) -> tuple[str, str]:
    """Split `bucket/key` as CodeBuild writes places in S3; an ARN's prefix is allowed."""
    bucket, _, key = location.removeprefix("arn:aws:s3:::").partition("/")
    return bucket, key


def download_source(
    s3: Any,
    location: str,
    version: str | None,
    archive: Path,
    target: Path,
    *,
    what: str = "primary source",
) -> None:
    """Fetch `bucket/key.zip`, the newest version or the given one, and unpack it into `target`."""
    bucket, key = split_location(location)
    arguments = {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})
    try:
        body = s3.get_object(**arguments)["Body"]
        with archive.open("wb") as stream:
            shutil.copyfileobj(body, stream)
    except ClientError as error:
        # CodeBuild's words: "NoSuchKey: The specified key does not exist. status code: 404, request id: …"
        details, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        raise SourceError(
            f"{details['Code']}: {details.get('Message', '')} status code: {status} for {what} "
            f"{location}{f' version {version}' if version else ''}"
        ) from error
    except (BotoCoreError, OSError) as error:
        raise SourceError(f"{error} for {what} {location}") from error
    try:
        unpack(archive, target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise SourceError(
            f"the source {location} is not a ZIP archive that can be unpacked: {error}"
        ) from error
    archive.unlink()


def unpack(archive: Path, target: Path) -> None:
    """Unpack a ZIP archive with its executable bits and links; refuse members that leave the folder."""
    links = []
    with zipfile.ZipFile(archive) as source:
        for member in source.infolist():
            mode = member.external_attr >> 16
            name = PurePosixPath(member.filename)
            if name.is_absolute() or ".." in name.parts:
                raise zipfile.BadZipFile(f"{member.filename} lies outside the archive")
            if stat.S_ISLNK(mode):
                links.append((target / name, source.read(member).decode()))
                continue
            path = Path(source.extract(member, target))
            if not member.is_dir() and mode & 0o111:
                path.chmod(0o755)
    # Links last, so that no member is written through one. A link may become one to the outside through a
    # later one, so all are checked again.
    for path, to in links:
        _check_link(path, to, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(to)
    for path, to in links:
        _check_link(path, to, target)


def _check_link(path: Path, to: str, target: Path) -> None:
    if not (path.parent / to).resolve().is_relative_to(target.resolve()):
        raise zipfile.BadZipFile(f"{path.relative_to(target)} links to {to}, outside the archive")


def read_buildspec(setting: str | None, source: Path, s3: Any) -> str:
    """Return the text of the buildspec that a source's setting names.

    The setting is the text itself, a path in the source, `arn:aws:s3:::bucket/key`, or empty for
    buildspec.yml in the source. Raises BuildspecError where there is no such file.
    """
    setting = setting or "buildspec.yml"
    if is_inline(setting):
        return setting
    if setting.startswith("arn:"):
        bucket, key = split_location(setting)
        try:
            return str(s3.get_object(Bucket=bucket, Key=key)["Body"].read(MAX_BYTES + 1).decode())
        except (ClientError, UnicodeDecodeError) as error:
            raise BuildspecError(f"{setting}: {error}") from error
    path = (source / setting).resolve()
    if not path.is_relative_to(source.resolve()) or not path.is_file():
        raise BuildspecError(f"YAML file does not exist: {setting}")
    with path.open("rb") as stream:
        try:
            return stream.read(MAX_BYTES + 1).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BuildspecError(f"{setting} is not UTF-8: {error}") from error


def is_inline(setting: str) -> bool:
    """Say whether a buildspec setting is the text itself and not a path."""
    return "\n" in setting or setting.lstrip().startswith(("{", "version"))
