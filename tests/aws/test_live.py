"""apps.aws against the embedded AWS."""

import base64
import hashlib
import io
import uuid

import pytest

from apps.aws import codebuild, s3
from apps.aws.errors import AwsError
from apps.aws.session import client

pytestmark = pytest.mark.integration


def test_objects_are_written_once_and_read_by_version(aws, versioned_bucket):
    body = b"first" * 1000
    sha256 = "e" * 64
    written = s3.put_if_absent(bucket=versioned_bucket, key="a/b", body=io.BytesIO(body), sha256=sha256)
    with pytest.raises(AwsError) as caught:
        s3.put_if_absent(bucket=versioned_bucket, key="a/b", body=io.BytesIO(b"second"), sha256=sha256)
    assert caught.value.code == "PreconditionFailed"
    assert not caught.value.retryable
    aws.client("s3").put_object(Bucket=versioned_bucket, Key="a/b", Body=b"third")
    told = s3.head(bucket=versioned_bucket, key="a/b", version=written.version)
    assert (told.size, told.etag, told.version) == (5000, written.etag, written.version)
    into, ticks = io.BytesIO(), []
    got = s3.download(
        bucket=versioned_bucket,
        key="a/b",
        version=written.version,
        into=into,
        limit=5000,
        tick=lambda: ticks.append(1),
    )
    assert into.getvalue() == body
    assert (got.size, got.etag, got.version) == (5000, told.etag, told.version)
    assert told.etag_is_md5
    assert got.md5 == told.etag
    assert ticks


def test_what_is_put_is_hashed_by_its_caller_alone(aws, versioned_bucket):
    sent = []
    client("s3").meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: sent.append(request.headers)
    )
    body = b"first"
    sha256 = hashlib.sha256(body).digest()
    s3.put_if_absent(bucket=versioned_bucket, key="a", body=io.BytesIO(body), sha256=sha256.hex())
    (headers,) = sent
    assert headers["x-amz-content-sha256"] == b"UNSIGNED-PAYLOAD"
    assert headers["x-amz-checksum-sha256"] == base64.b64encode(sha256)
    assert b";x-amz-checksum-sha256;" in headers["Authorization"]


def test_larger_objects_are_not_read(aws, versioned_bucket):
    aws.client("s3").put_object(Bucket=versioned_bucket, Key="a", Body=b"x" * 101)
    into = io.BytesIO()
    with pytest.raises(s3.TooLarge, match="101 bytes; at most 100"):
        s3.download(bucket=versioned_bucket, key="a", into=into, limit=100)
    assert into.getvalue() == b""


@pytest.mark.parametrize("call", ["head", "download"])
def test_what_is_missing_is_told_from_what_fails(aws, versioned_bucket, call):
    extra = {"into": io.BytesIO(), "limit": 1} if call == "download" else {}
    for bucket, key in ((versioned_bucket, "nothing"), (f"test-{uuid.uuid4()}", "nothing")):
        with pytest.raises(AwsError) as caught:
            getattr(s3, call)(bucket=bucket, key=key, **extra)
        assert s3.is_missing(caught.value)


def test_listings_go_to_the_last_page(aws, versioned_bucket):
    client = aws.client("s3")
    for number in range(1005):
        client.put_object(Bucket=versioned_bucket, Key=f"reports/{number:04}", Body=b"x")
    client.put_object(Bucket=versioned_bucket, Key="other", Body=b"x")
    found = [item.key for item in s3.list_objects(bucket=versioned_bucket, prefix="reports/")]
    assert found == [f"reports/{number:04}" for number in range(1005)]


def test_a_listing_goes_on_where_the_page_before_ended(aws, versioned_bucket):
    client = aws.client("s3")
    for name in ("a/1", "a/2 é", "a/3", "b"):
        client.put_object(Bucket=versioned_bucket, Key=name, Body=b"x")
    first = s3.list_page(bucket=versioned_bucket, prefix="a/", limit=2)
    assert ([item.key for item in first.items], first.more) == (["a/1", "a/2 é"], True)
    second = s3.list_page(bucket=versioned_bucket, prefix="a/", after=first.items[-1].key, limit=2)
    assert ([item.key for item in second.items], second.more) == (["a/3"], False)
    assert second.items[0].etag == s3.head(bucket=versioned_bucket, key="a/3").etag
    assert s3.list_page(bucket=versioned_bucket, prefix="c/").items == []


def test_versioning_is_told(aws, versioned_bucket):
    assert s3.is_versioned(bucket=versioned_bucket)


def test_what_codebuild_does_not_know_is_none_or_left_out(aws):
    assert codebuild.get_build(f"nothing:{uuid.uuid4()}") is None
    assert codebuild.get_project("nothing") is None
    assert (
        codebuild.get_reports((f"arn:aws:codebuild:eu-central-1:123456789012:report/a:{uuid.uuid4()}",)) == []
    )
