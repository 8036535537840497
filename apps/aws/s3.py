"""S3: objects in, objects out. Bucket versioning is expected everywhere."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

from apps.aws.errors import AwsError, translated
from apps.aws.session import client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

CHUNK = 1024 * 1024


@dataclass(frozen=True)
class ObjectInfo:
    """An object as S3 describes it."""

    bucket: str
    key: str
    size: int
    etag: str  # without the quotes
    version: str  # "" in a bucket that never was versioned
    sha256: str | None  # hexadecimal; None where S3 was not given one of the whole object
    modified_at: datetime | None = None
    # Of an object written whole and not encrypted with KMS or a customer's key, the eTag is its MD5.
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    etag_is_md5: bool = False


@dataclass(frozen=True)
class Downloaded:
    """What came with a downloaded object, and what was measured of it."""

    size: int
    etag: str
    version: str
    sha256: str  # hexadecimal, computed here
    md5: str  # hexadecimal, computed here, to compare with eTags


@dataclass(frozen=True)
class Page:
    """Part of a listing; ``more`` says that S3 has further keys after the last one."""

    items: list[ObjectInfo]
    more: bool


class TooLarge(AwsError):
    """The object is larger than the caller is willing to read."""

    def __init__(self, bucket: str, key: str, size: int, limit: int) -> None:
        super().__init__(
            f"s3://{bucket}/{key} has {size:,} bytes; at most {limit:,} are read",
            retryable=False,
            code="TooLarge",
        )


def is_missing(error: AwsError) -> bool:
    """Whether S3 said that the object, its version or the bucket is not there."""
    return error.code in {"404", "NoSuchKey", "NoSuchVersion", "NoSuchBucket", "NotFound"}


def is_versioned(*, bucket: str) -> bool:
    """Whether the bucket keeps versions now (a suspended one does not)."""
    with translated(f"S3 GetBucketVersioning of {bucket}"):
        answer = _s3().get_bucket_versioning(Bucket=bucket)
    return answer.get("Status") == "Enabled"


def put_if_absent(*, bucket: str, key: str, body: IO[bytes], sha256: str) -> ObjectInfo:
    """Write an object that must not exist; AwsError with code PreconditionFailed when it does.

    ``sha256`` (hexadecimal) is sent along, so S3 refuses a body that was damaged on the way.
    """
    with translated(f"S3 PutObject of s3://{bucket}/{key}"):
        size = body.seek(0, 2)
        body.seek(0)
        answer = _s3().put_object(
            Bucket=bucket,
            Key=key,
            Body=body,
            ContentLength=size,
            IfNoneMatch="*",
            ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
        )
    return ObjectInfo(
        bucket=bucket,
        key=key,
        size=size,
        etag=answer["ETag"].strip('"'),
        version=answer.get("VersionId", ""),
        sha256=sha256,
    )


def head(*, bucket: str, key: str, version: str | None = None) -> ObjectInfo:
    """Describe an object without reading it."""
    with translated(f"S3 HeadObject of s3://{bucket}/{key}"):
        answer = _s3().head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED", **_version(version))
    # A checksum of checksums (multipart upload) ends in the number of parts: it says nothing of the whole.
    checksum = answer.get("ChecksumSHA256")
    whole = checksum and "-" not in checksum and answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
    return ObjectInfo(
        bucket=bucket,
        key=key,
        size=answer["ContentLength"],
        etag=answer["ETag"].strip('"'),
        version=answer.get("VersionId", ""),
        sha256=base64.b64decode(checksum).hex() if checksum and whole else None,
        modified_at=answer.get("LastModified"),
        etag_is_md5=len(answer["ETag"].strip('"')) == 32
        and answer.get("ServerSideEncryption", "AES256") == "AES256"
        and "SSECustomerAlgorithm" not in answer,
    )


def download(
    *,
    bucket: str,
    key: str,
    version: str | None = None,
    into: IO[bytes],
    limit: int,
    tick: Callable[[], object] = lambda: None,
) -> Downloaded:
    """Copy an object into a file while hashing it; TooLarge beyond ``limit`` bytes, whatever S3 declares.

    ``tick`` is called with every chunk, so that a long download can keep its caller's lease.
    """
    with translated(f"S3 GetObject of s3://{bucket}/{key}"):
        answer = _s3().get_object(Bucket=bucket, Key=key, **_version(version))
        declared = answer["ContentLength"]
        if declared > limit:
            answer["Body"].close()
            raise TooLarge(bucket, key, declared, limit)
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        size = 0
        # Not `with body as …`: StreamingBody's own __enter__ hands out the bare HTTP response.
        with closing(answer["Body"]) as body:
            for chunk in body.iter_chunks(CHUNK):
                size += len(chunk)
                if size > limit:
                    raise TooLarge(bucket, key, size, limit)
                sha256.update(chunk)
                md5.update(chunk)
                into.write(chunk)
                tick()
    return Downloaded(
        size=size,
        etag=answer["ETag"].strip('"'),
        version=answer.get("VersionId", ""),
        sha256=sha256.hexdigest(),
        md5=md5.hexdigest(),
    )


def list_objects(*, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
    """Every current object whose key begins with ``prefix``, in the order of keys."""
    with translated(f"S3 ListObjectsV2 of s3://{bucket}/{prefix}"):
        for page in _s3().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from (_listed(bucket, item) for item in page.get("Contents", []))


def list_page(*, bucket: str, prefix: str, after: str = "", limit: int = 1000) -> Page:
    """The first current objects whose key begins with ``prefix`` and comes after ``after``, by one call."""
    start = {"StartAfter": after} if after else {}
    with translated(f"S3 ListObjectsV2 of s3://{bucket}/{prefix}"):
        answer = _s3().list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=limit, **start)  # type: ignore[arg-type]  # a str
    return Page([_listed(bucket, item) for item in answer.get("Contents", [])], answer["IsTruncated"])


def _listed(bucket: str, item: "ObjectTypeDef") -> ObjectInfo:
    return ObjectInfo(
        bucket=bucket,
        key=item["Key"],
        size=item["Size"],
        etag=item["ETag"].strip('"'),
        version="",
        sha256=None,
        modified_at=item["LastModified"],
    )


def _version(version: str | None) -> dict[str, Any]:
    return {"VersionId": version} if version else {}


def _s3() -> "S3Client":
    s3: S3Client = client("s3")
    return s3
