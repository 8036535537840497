"""One embedded AWS for the tests of this folder: a real process, reached with boto3."""

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import boto3
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"


@dataclass
class Sandbox:
    """A running `manage.py sandbox`."""

    endpoint: str
    state: Path
    process: subprocess.Popen

    @cached_property
    def session(self):
        return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)

    def client(self, service, **options):
        """Return a boto3 client of this sandbox."""
        return self.session.client(service, endpoint_url=self.endpoint, **options)

    def stop(self):
        """Send SIGTERM and return the exit code."""
        self.process.terminate()
        return self.process.wait(30)


def start_sandbox(folder, *options):
    """Start a sandbox with its state in `folder` and wait until it answers."""
    ready = folder / "ready.json"
    command = [sys.executable, "manage.py", "sandbox", "--state", str(folder / "state")]
    command += ["--ready-file", str(ready), "--with-parent", *options]
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (folder / "sandbox.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError((folder / "sandbox.log").read_text())
        time.sleep(0.05)
    return Sandbox(json.loads(ready.read_text())["endpoint"], folder / "state", process)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    """An embedded AWS that all tests share: give buckets and projects names of their own."""
    running = start_sandbox(tmp_path_factory.mktemp("sandbox"))
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def start():
    """Start a sandbox of one's own: `start(tmp_path)`."""
    return start_sandbox


@pytest.fixture
def bucket(sandbox, request):
    """A versioned bucket for one test."""
    name = f"test-{abs(hash(request.node.nodeid)):x}"
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def zipped(files):
    """Return a ZIP archive of {name: text}; names ending in .sh are executable."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o100755 if name.endswith(".sh") else 0o100644) << 16
            archive.writestr(info, text)
    return content.getvalue()


class Builder:
    """Makes projects and runs builds of one test."""

    def __init__(self, sandbox, bucket, name):
        self.sandbox, self.bucket, self.name = sandbox, bucket, name
        self.codebuild, self.s3 = sandbox.client("codebuild"), sandbox.client("s3")

    def upload(self, files):
        """Upload a source and return its S3 version."""
        return self.s3.put_object(Bucket=self.bucket, Key="source/app.zip", Body=zipped(files))["VersionId"]

    def create_project(self, **members):
        """Create the test's project, with its source in the bucket unless told otherwise."""
        defaults = {
            "name": self.name,
            "source": {"type": "S3", "location": f"{self.bucket}/source/app.zip"},
            "artifacts": {"type": "NO_ARTIFACTS"},
            "environment": {
                "type": "LINUX_CONTAINER",
                "image": "aws/codebuild/standard:7.0",
                "computeType": "BUILD_GENERAL1_SMALL",
            },
            "serviceRole": "arn:aws:iam::123456789012:role/build",
        }
        return self.codebuild.create_project(**(defaults | members))["project"]

    def start(self, **params):
        """Start a build and return its id."""
        return self.codebuild.start_build(projectName=self.name, **params)["build"]["id"]

    def describe(self, build_id):
        """Return BatchGetBuilds' answer for one build."""
        return self.codebuild.batch_get_builds(ids=[build_id])["builds"][0]

    def wait(self, build_id, seconds=60):
        """Return the build once it is complete."""
        deadline = time.monotonic() + seconds
        while not (build := self.describe(build_id))["buildComplete"]:
            assert time.monotonic() < deadline, self.log(build)
            time.sleep(0.05)
        return build

    def run(self, buildspec, files=(), project=(), **params):
        """Run one build of a source with this buildspec and return it when it is complete."""
        version = self.upload({"buildspec.yml": buildspec, **dict(files)})
        self.create_project(**dict(project))
        return self.wait(self.start(sourceVersion=version, **params))

    @staticmethod
    def log(build):
        """Return a build's log."""
        return Path(build["logs"]["deepLink"].removeprefix("file://")).read_text()


@pytest.fixture
def builder(sandbox, bucket):
    """A Builder with a project name of its own."""
    return Builder(sandbox, bucket, bucket.replace("test-", "project-"))
