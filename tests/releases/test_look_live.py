"""A bundle in the embedded AWS's S3: its version stays what it is until somebody deletes it."""

import pytest

from apps.releases.services import look_at_bundle
from tests.factories import make_release, make_service
from tests.sandbox.conftest import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.django_db]


def test_a_bundle_is_intact_until_its_version_is_deleted(aws: Sandbox, versioned_bucket: str) -> None:
    s3, where = aws.client("s3"), {"Bucket": versioned_bucket, "Key": "releases/web/1.tar"}
    put = s3.put_object(**where, Body=b"the bundle")
    release = make_release(
        make_service("web", bucket=versioned_bucket),
        key=where["Key"],
        object_version=put["VersionId"],
        etag=put["ETag"].strip('"'),
        size=10,
    )
    assert look_at_bundle(release=release).problem == ""
    # Neither another version nor a delete marker takes it away.
    s3.put_object(**where, Body=b"another")
    s3.delete_object(**where)
    assert look_at_bundle(release=release).problem == ""
    s3.delete_object(**where, VersionId=put["VersionId"])
    look = look_at_bundle(release=release)
    assert "is gone from s3://" in look.problem
    assert look.failing_since is None
