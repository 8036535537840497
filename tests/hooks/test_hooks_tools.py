"""The uploader of flight records: alone against the embedded AWS, and as the unit that hooks start."""

import json
import os
import shutil
import subprocess
import sys
import uuid

import pytest

from tests.hooks.agent import Deployment, Machine, free_port, wait_until
from tests.hooks.trees import REPOSITORY
from tests.sandbox.conftest import REGION

pytestmark = pytest.mark.integration
UNIT = "lockkeeper-flight.service"


@pytest.fixture
def bucket(embedded_aws):
    name = f"flight-{uuid.uuid4().hex[:12]}"
    embedded_aws.client("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    return name


@pytest.fixture
def root(tmp_path):
    """A host's folder with the tools and an empty outbox."""
    shutil.copytree(REPOSITORY / "scripts/host_tools", tmp_path / "opt/lockkeeper")
    (tmp_path / "srv/lockkeeper/state/flight").mkdir(parents=True)
    (tmp_path / "srv/lockkeeper/state/outbox").mkdir()
    return tmp_path


def environ(endpoint, **more):
    return {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        **more,
    }


def record(bucket, deployment="d-1", event="AfterInstall", **fields):
    return {
        "schema": 1,
        "deployment_id": deployment,
        "host": "i-1",
        "application": "lockkeeper",
        "group": "staging",
        "event": event,
        "bundle": {"bucket": bucket, "key": "k", "version": "1", "etag": "e"},
        **fields,
    }


def leave(root, document, name=None):
    """Leave a record as hooks do: in its folder, and linked in the outbox."""
    name = name or f"{document['deployment_id']}.{document['event']}.json"
    kept = root / "srv/lockkeeper/state/flight" / name
    kept.write_text(document if isinstance(document, str) else json.dumps(document))
    (root / "srv/lockkeeper/state/outbox" / name).hardlink_to(kept)
    return kept


def upload(root, endpoint, **more):
    return subprocess.run(
        [sys.executable, "-I", "-B", root / "opt/lockkeeper/flight.py"],
        env=environ(endpoint, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def outbox(root):
    return sorted(path.name for path in (root / "srv/lockkeeper/state/outbox").iterdir())


def stored(aws, bucket):
    s3 = aws.client("s3")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys}


def test_everything_goes_to_its_place_and_leaves_the_outbox(root, embedded_aws, bucket):
    kept = [leave(root, record(bucket, event=event)) for event in ("BeforeInstall", "AfterInstall")]
    done = upload(root, embedded_aws.endpoint)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(stored(embedded_aws, bucket)) == [
        "flight/lockkeeper/staging/d-1/i-1/AfterInstall.json",
        "flight/lockkeeper/staging/d-1/i-1/BeforeInstall.json",
    ]
    assert len(done.stdout.splitlines()) == 2
    assert f"uploaded to s3://{bucket}/flight/lockkeeper/staging/d-1/i-1/AfterInstall.json" in done.stdout
    assert outbox(root) == []
    assert all(path.is_file() for path in kept)


def test_an_empty_outbox_is_fine_and_asks_nobody(root):
    done = upload(root, f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    shutil.rmtree(root / "srv")
    assert upload(root, "http://127.0.0.1:1").returncode == 0


def test_a_later_record_of_the_same_event_replaces_the_first(root, embedded_aws, bucket):
    leave(root, record(bucket, result="running"))
    assert upload(root, embedded_aws.endpoint).returncode == 0
    (root / "srv/lockkeeper/state/flight/d-1.AfterInstall.json").unlink()
    leave(root, record(bucket, result="succeeded"))
    assert upload(root, embedded_aws.endpoint).returncode == 0
    (document,) = stored(embedded_aws, bucket).values()
    assert document["result"] == "succeeded"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("{", "it is no flight record"),
        ("[]", "it is no flight record"),
        ('{"schema": 1}', "it is no flight record"),
        (record("", bundle={"bucket": ""}), "its bundle came from no bucket"),
        (record("", bundle=None), "its bundle came from no bucket"),
        (record("b", deployment="d-1/../x"), "makes no key"),
        (record("b", tail=["x" * 70_000]), "a record has 65536 at most"),
    ],
)
def test_what_can_never_be_uploaded_is_in_nobodys_way(root, embedded_aws, bucket, document, reason):
    bad = leave(root, document, name="a-bad.json")
    leave(root, record(bucket))
    done = upload(root, embedded_aws.endpoint)
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("a-bad.json: not uploaded, ")]
    assert reason in line
    assert line.endswith("it stays on this host")
    assert bad.is_file()
    assert outbox(root) == []
    assert len(stored(embedded_aws, bucket)) == 1


def test_a_bucket_that_is_missing_keeps_its_record_and_no_other(root, embedded_aws, bucket):
    leave(root, record(f"{bucket}-missing", deployment="d-0"))
    leave(root, record(bucket))
    done = upload(root, embedded_aws.endpoint)
    assert done.returncode == 1
    assert "d-0.AfterInstall.json: AWS answered NoSuchBucket" in done.stderr
    assert outbox(root) == ["d-0.AfterInstall.json"]
    assert len(stored(embedded_aws, bucket)) == 1


def test_with_aws_away_it_fails_at_once_and_keeps_all(root, bucket):
    for number in range(5):
        leave(root, record(bucket, deployment=f"d-{number}"))
    done = upload(root, f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "AWS cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    # One attempt is enough to know; the unit makes the next.
    assert len(done.stderr.splitlines()) == 1
    assert len(outbox(root)) == 5


def test_of_the_environment_only_what_reaches_aws_is_kept(root, embedded_aws, bucket):
    """A proxy counts, a secret of the service does not."""
    leave(root, record(bucket))
    program = (
        "import sys, os; sys.path.insert(0, sys.argv[1]); import aws; aws.keep_aws_variables();"
        "print(sorted(os.environ))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, root / "opt/lockkeeper"],
        env=environ(embedded_aws.endpoint, SECRET_KEY="x", DATABASE_URL="y", https_proxy="z"),
        capture_output=True,
        text=True,
        check=True,
    )
    left = json.loads(done.stdout.replace("'", '"'))
    assert {"AWS_ENDPOINT_URL", "https_proxy", "PATH"} <= set(left)
    assert not {"SECRET_KEY", "DATABASE_URL"} & set(left)


class Shipped(Deployment):
    """A deployment whose bundle came from a bucket that exists."""

    bucket = ""

    def variables(self, event):
        return super().variables(event) | {"BUNDLE_BUCKET": self.bucket}


def ship(machine, bundle, bucket):
    deployment = Shipped(machine, bundle)
    deployment.bucket = bucket
    deployment.run_all()
    return deployment


def test_hooks_have_their_records_uploaded_by_the_unit(tmp_path, embedded_aws, bucket, make_bundle):
    """With S3 away a deployment succeeds; its records come when S3 is back, at boot if not before."""
    lines = "".join(f"{name}={value}\n" for name, value in environ(embedded_aws.endpoint).items())
    machine = Machine(tmp_path / "staging-1" / "root", environment=lines.partition("\n")[2])
    try:
        environment = machine.root / "etc/lockkeeper/environment"
        nowhere = f"http://127.0.0.1:{free_port()}"
        right = environment.read_text()
        environment.write_text(right.replace(embedded_aws.endpoint, nowhere))
        deployment = ship(machine, make_bundle("one"), bucket)
        assert len(outbox(machine.root)) == 4
        wait_until(lambda: "AWS cannot be reached" in journal(machine))
        assert machine.serving() == make_bundle("one").digest
        environment.write_text(right)
        machine.up.power_off()
        machine.boot()
        wait_until(lambda: outbox(machine.root) == [], seconds=150)
        assert {key.rpartition("/")[2] for key in stored(embedded_aws, bucket)} == {
            f"{event}.json"
            for event in ("BeforeInstall", "AfterInstall", "ApplicationStart", "ValidateService")
        }
        prefix = f"flight/lockkeeper/staging/{deployment.id}/staging-1/"
        assert all(key.startswith(prefix) for key in stored(embedded_aws, bucket))
    finally:
        machine.up.power_off()


def journal(machine):
    return (machine.root / f"var/log/journal/{UNIT}.log").read_text()
