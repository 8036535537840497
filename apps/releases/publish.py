"""Publish a bundle: written once under its own digest, never overwritten."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from apps.aws import s3
from apps.aws.errors import AwsError
from apps.errors import DomainError, Invalid

# PutObject takes no more in one call, and only PutObject takes IfNoneMatch with a whole checksum.
LIMIT = 5 * 1024**3  # bytes


@dataclass(frozen=True)
class Published:
    """Where a bundle lies."""

    bucket: str
    key: str
    version: str
    sha256: str
    new: bool  # False when the same bundle was there already


def publish_bundle(*, path: Path, bucket: str, prefix: str) -> Published:
    """Write the bundle at ``path`` to ``prefix/<its SHA-256>.tar``.

    An object that is there already counts as published when its content is the same. DomainError when
    it is not, when the bucket keeps no versions, or when the file cannot be a bundle; AwsError otherwise.
    """
    if not path.is_file():
        raise Invalid(f"There is no bundle at {path}. Make it with `manage.py bundle`.")
    with path.open("rb") as body:
        digest = hashlib.file_digest(body, "sha256").hexdigest()
        size = body.seek(0, 2)
        if not 0 < size <= LIMIT:
            raise Invalid(f"{path} has {size:,} bytes; a bundle has at least one and at most {LIMIT:,}.")
        key = f"{prefix.strip('/')}/{digest}.tar"
        if not s3.is_versioned(bucket=bucket):
            raise Invalid(
                f"The bucket {bucket} keeps no versions, so a release in it could be replaced unseen. "
                f"Turn versioning on: aws s3api put-bucket-versioning --bucket {bucket} "
                "--versioning-configuration Status=Enabled"
            )
        try:
            written = s3.put_if_absent(bucket=bucket, key=key, body=body, sha256=digest)
        except AwsError as error:
            if error.code != "PreconditionFailed":
                raise
            return _already_there(bucket, key, digest, size)
    return Published(bucket=bucket, key=key, version=written.version, sha256=digest, new=True)


def _already_there(bucket: str, key: str, digest: str, size: int) -> Published:
    found = s3.head(bucket=bucket, key=key)
    sha256 = found.sha256
    if found.size == size and sha256 is None:
        # Put there by a tool that sent no checksum: read it.
        with tempfile.TemporaryFile() as file:
            sha256 = s3.download(bucket=bucket, key=key, version=found.version, into=file, limit=size).sha256
    if found.size != size or sha256 != digest:
        raise DomainError(
            f"s3://{bucket}/{key} exists with other content ({found.size:,} bytes, SHA-256 {sha256}) than "
            f"its name says. Somebody wrote it by hand: find out who before removing it."
        )
    if found.version in {"", "null"}:
        raise DomainError(
            f"s3://{bucket}/{key} was written before the bucket kept versions. Remove it and publish again."
        )
    return Published(bucket=bucket, key=key, version=found.version, sha256=digest, new=False)
