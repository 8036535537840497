"""Bundles go into S3 once, under their digest."""

import hashlib
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from apps.aws import s3
from apps.builds.models import Build
from apps.releases.services import register_release
from tests.factories import make_build, make_service
from tests.releases.trees import bundle_of

BODY = bundle_of()
DIGEST = hashlib.sha256(BODY).hexdigest()
KEY = f"releases/web/{DIGEST}.tar"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.tar"
    path.write_bytes(BODY)
    return path


def publish(bundle: Path, bucket: str, *arguments: str) -> str:
    out = StringIO()
    call_command("publish", bundle, "--bucket", bucket, "--prefix", "/releases/web/", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.integration
class TestPublish:
    def test_it_is_written_once_and_the_variables_can_be_sourced(
        self, aws, versioned_bucket, bundle, tmp_path
    ):
        exports = tmp_path / "exports"
        first = publish(bundle, versioned_bucket, "--export", str(exports))
        told = aws.client("s3").head_object(Bucket=versioned_bucket, Key=KEY)
        assert first.startswith(f"Published: s3://{versioned_bucket}/{KEY} version {told['VersionId']}\n")
        shell = (
            f". {exports}; echo $LOCKKEEPER_BUNDLE_KEY $LOCKKEEPER_BUNDLE_VERSION $LOCKKEEPER_BUNDLE_SHA256"
        )
        sourced = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
        assert sourced.split() == [KEY, told["VersionId"], DIGEST]
        again = publish(bundle, versioned_bucket)
        assert again == first.replace("Published", "Already published", 1)

    def test_other_content_under_its_name_is_refused(self, aws, versioned_bucket, bundle):
        aws.client("s3").put_object(Bucket=versioned_bucket, Key=KEY, Body=b"x" * len(BODY))
        with pytest.raises(CommandError, match="exists with other content"):
            publish(bundle, versioned_bucket)

    def test_content_of_another_size_is_refused_without_reading_it(self, aws, versioned_bucket, bundle):
        aws.client("s3").put_object(Bucket=versioned_bucket, Key=KEY, Body=b"x")
        with pytest.raises(CommandError, match="exists with other content"):
            publish(bundle, versioned_bucket)

    def test_a_bucket_without_versions_is_refused_before_anything_is_written(
        self, aws, versioned_bucket, bundle
    ):
        client = aws.client("s3")
        client.put_bucket_versioning(Bucket=versioned_bucket, VersioningConfiguration={"Status": "Suspended"})
        with pytest.raises(CommandError, match="put-bucket-versioning"):
            publish(bundle, versioned_bucket)
        assert "Contents" not in client.list_objects_v2(Bucket=versioned_bucket)

    def test_an_unknown_bucket_is_said(self, aws, bundle):
        with pytest.raises(CommandError, match="NoSuchBucket"):
            publish(bundle, "test-nowhere-at-all")

    @pytest.mark.django_db
    def test_what_was_published_can_be_registered(self, aws, versioned_bucket, bundle):
        publish(bundle, versioned_bucket)
        told = s3.head(bucket=versioned_bucket, key=KEY)
        build: Build = make_build(
            make_service("web", bucket=versioned_bucket),
            commit="a" * 40,
            exports={
                "LOCKKEEPER_BUNDLE_KEY": KEY,
                "LOCKKEEPER_BUNDLE_VERSION": told.version,
                "LOCKKEEPER_BUNDLE_SHA256": DIGEST,
            },
        )
        release = register_release(build=build)
        assert (release.digest, release.object_version, release.etag) == (DIGEST, told.version, told.etag)


def test_a_file_that_is_not_there_is_said_without_asking_aws(tmp_path):
    with pytest.raises(CommandError, match=r"There is no bundle at .*nowhere.tar"):
        publish(tmp_path / "nowhere.tar", "bucket")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.tar").touch()
    with pytest.raises(CommandError, match="has 0 bytes"):
        publish(tmp_path / "empty.tar", "bucket")
