"""Artifacts and logs that a build leaves in S3."""

import gzip
import hashlib
import io
import zipfile

import pytest

pytestmark = pytest.mark.integration

SPEC = """
version: 0.2
phases:
  build:
    commands:
      - mkdir -p out/sub
      - echo a > out/a.txt; echo b > out/sub/b.txt; touch out/sub/c.pyc
      - "ln -s /etc/passwd out/link"
artifacts:
  files: ["**/*"]
  base-directory: out
  exclude-paths: ["**/*.pyc"]
"""


def keys_in(builder, prefix):
    found = builder.s3.list_objects_v2(Bucket=builder.bucket, Prefix=prefix)
    return [each["Key"] for each in found.get("Contents", [])]


def artifacts(builder, **more):
    return {"artifacts": {"type": "S3", "location": builder.bucket, "path": "artifacts", **more}}


def test_files_are_uploaded_one_by_one(builder):
    build = builder.run(SPEC, project=artifacts(builder, namespaceType="BUILD_ID"))
    assert build["buildStatus"] == "SUCCEEDED", builder.log(build)
    folder = f"artifacts/{build['id'].partition(':')[2]}/{builder.name}"
    assert keys_in(builder, "artifacts") == [f"{folder}/a.txt", f"{folder}/sub/b.txt"]
    assert build["artifacts"]["location"] == f"arn:aws:s3:::{builder.bucket}/{folder}"
    assert "Skipping invalid file path link: not a regular file" in builder.log(build)


def test_a_zip_has_the_sums_that_the_build_tells(builder):
    build = builder.run(SPEC, project=artifacts(builder, packaging="ZIP", name="app.zip"))
    body = builder.s3.get_object(Bucket=builder.bucket, Key="artifacts/app.zip")["Body"].read()
    assert build["artifacts"]["sha256sum"] == hashlib.sha256(body).hexdigest()
    assert build["artifacts"]["md5sum"] == hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert zipfile.ZipFile(io.BytesIO(body)).namelist() == ["a.txt", "sub/b.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("**/*", "no/such"), "no matching artifact paths found"),
        (("base-directory: out", "base-directory: ../.."), "no matching base directory path found for ../.."),
    ],
)
def test_artifacts_that_are_not_there_fail_the_upload(builder, change, message):
    build = builder.run(SPEC.replace(*change), project=artifacts(builder))
    assert build["buildStatus"] == "FAILED"
    upload = next(phase for phase in build["phases"] if phase["phaseType"] == "UPLOAD_ARTIFACTS")
    assert upload["contexts"] == [{"statusCode": "CLIENT_ERROR", "message": message}]


def test_artifacts_are_uploaded_though_build_failed(builder):
    spec = SPEC.replace("ln -s /etc/passwd out/link", "false")
    build = builder.run(spec, project=artifacts(builder, name="x"))
    assert build["buildStatus"] == "FAILED"
    assert keys_in(builder, "artifacts") == ["artifacts/x/a.txt", "artifacts/x/sub/b.txt"]


def test_the_log_goes_to_s3_when_asked(builder):
    config = {"s3Logs": {"status": "ENABLED", "location": f"{builder.bucket}/logs"}}
    build = builder.run(SPEC, project={"logsConfig": config})
    bucket, _, key = build["logs"]["s3LogsArn"].removeprefix("arn:aws:s3:::").partition("/")
    body = builder.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    assert b"Phase complete: BUILD State: SUCCEEDED" in gzip.decompress(body)


def test_a_log_that_cannot_be_uploaded_is_said(builder):
    config = {"s3Logs": {"status": "ENABLED", "location": "no-such-bucket/logs"}}
    build = builder.run(SPEC, project={"logsConfig": config})
    final = next(phase for phase in build["phases"] if phase["phaseType"] == "FINALIZING")
    assert "NoSuchBucket" in final["contexts"][0]["message"]


SECONDARY = (
    SPEC
    + """
  secondary-artifacts:
    logs: {files: [a.txt], base-directory: out}
    sub: {files: ["*"], base-directory: out/sub, discard-paths: yes}
"""
)


def test_secondary_artifacts_go_where_the_project_says(builder):
    secondary = [
        {
            "type": "S3",
            "location": builder.bucket,
            "artifactIdentifier": "logs",
            "packaging": "ZIP",
            "name": "l.zip",
        },
        {"type": "S3", "location": builder.bucket, "artifactIdentifier": "sub", "path": "deep"},
    ]
    build = builder.run(SECONDARY, project=artifacts(builder, name="x") | {"secondaryArtifacts": secondary})
    assert build["buildStatus"] == "SUCCEEDED", builder.log(build)
    assert keys_in(builder, "artifacts") == ["artifacts/x/a.txt", "artifacts/x/sub/b.txt"]
    assert keys_in(builder, "deep") == ["deep/sub/b.txt", "deep/sub/c.pyc"]
    first, second = build["secondaryArtifacts"]
    assert first["artifactIdentifier"] == "logs"
    assert first["location"] == f"arn:aws:s3:::{builder.bucket}/l.zip"
    assert second["location"] == f"arn:aws:s3:::{builder.bucket}/deep/sub"
    body = builder.s3.get_object(Bucket=builder.bucket, Key="l.zip")["Body"].read()
    assert first["sha256sum"] == hashlib.sha256(body).hexdigest()


def test_secondary_artifacts_that_the_buildspec_lacks_fail_the_upload(builder):
    secondary = [{"type": "S3", "location": builder.bucket, "artifactIdentifier": "other"}]
    build = builder.run(SECONDARY, project={"secondaryArtifacts": secondary})
    assert build["buildStatus"] == "FAILED"
    upload = next(phase for phase in build["phases"] if phase["phaseType"] == "UPLOAD_ARTIFACTS")
    assert "no secondary artifacts other" in upload["contexts"][0]["message"]


def test_secondary_sources_lie_beside_the_source(builder):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("data.txt", "of the other source\n")
    key = "source/other.zip"
    old = builder.s3.put_object(Bucket=builder.bucket, Key=key, Body=body.getvalue())["VersionId"]
    builder.s3.put_object(Bucket=builder.bucket, Key=key, Body=b"newer, and no archive")
    spec = "version: 0.2\nphases: {build: {commands: ['cat \"$CODEBUILD_SRC_DIR_other/data.txt\"; pwd']}}"
    source = {"type": "S3", "location": f"{builder.bucket}/{key}", "sourceIdentifier": "other"}
    version = {"sourceIdentifier": "other", "sourceVersion": old}
    build = builder.run(spec, project={"secondarySources": [source], "secondarySourceVersions": [version]})
    assert build["buildStatus"] == "SUCCEEDED", builder.log(build)
    assert "\nof the other source\n" in builder.log(build)
    assert build["secondarySources"] == [source]
    build = builder.wait(
        builder.start(secondarySourcesVersionOverride=[version | {"sourceVersion": "0" * 32}])
    )
    assert build["buildStatus"] == "FAILED"
    download = next(phase for phase in build["phases"] if phase["phaseType"] == "DOWNLOAD_SOURCE")
    assert "for secondary source other" in download["contexts"][0]["message"]


@pytest.mark.parametrize("packaging", ["NONE", "ZIP"])
def test_a_bucket_that_is_not_there_fails_the_upload(builder, packaging):
    where = {"type": "S3", "location": "no-such-bucket", "packaging": packaging}
    build = builder.run(SPEC, project={"artifacts": where})
    assert build["buildStatus"] == "FAILED"
    assert "NoSuchBucket" in builder.log(build)
