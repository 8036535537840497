"""The sandbox's server as a process: moto and our services on one address, start and end."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]


def run_command(*options):
    command = [sys.executable, "manage.py", "sandbox", *options]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


def test_s3_keeps_versions_and_refuses_to_overwrite_when_asked(sandbox, bucket):
    s3 = sandbox.client("s3")
    first = s3.put_object(Bucket=bucket, Key="a b/ü", Body=b"1", IfNoneMatch="*")["VersionId"]
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a b/ü", Body=b"2", IfNoneMatch="*")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    s3.put_object(Bucket=bucket, Key="a b/ü", Body=b"3")
    assert s3.get_object(Bucket=bucket, Key="a b/ü", VersionId=first)["Body"].read() == b"1"


def test_large_uploads_come_back_whole(sandbox, bucket, tmp_path):
    s3 = sandbox.client("s3")
    content = os.urandom(20 << 20)
    (tmp_path / "in").write_bytes(content)
    s3.upload_file(str(tmp_path / "in"), bucket, "big")  # multipart, with Expect: 100-continue
    s3.download_file(bucket, "big", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == content
    # An object that looks like moto's error pages is no error.
    s3.put_object(Bucket=bucket, Key="page", Body=b"<!doctype html>", ContentType="text/html")
    assert s3.get_object(Bucket=bucket, Key="page")["Body"].read() == b"<!doctype html>"


def test_an_empty_object_is_stored(sandbox, bucket):
    s3 = sandbox.client("s3")
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    s3.put_object(Bucket=bucket, Key="full", Body=b"x")
    sizes = [s3.head_object(Bucket=bucket, Key=key)["ContentLength"] for key in ("empty", "full")]
    assert sizes == [0, 1]


def test_the_other_services_of_moto_answer(sandbox):
    sqs = sandbox.client("sqs")
    url = sqs.create_queue(QueueName="nudges")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events = sandbox.client("events")
    events.put_rule(Name="all", EventPattern='{"source": ["test"]}')
    events.put_targets(Rule="all", Targets=[{"Id": "1", "Arn": arn}])
    events.put_events(Entries=[{"Source": "test", "DetailType": "x", "Detail": '{"a": 1}'}])
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    assert json.loads(message["Body"])["detail"] == {"a": 1}
    assert sandbox.client("sts").get_caller_identity()["Account"] == "123456789012"
    ssm = sandbox.client("ssm")
    ssm.put_parameter(Name="/a", Value="b", Type="String")
    assert ssm.get_parameter(Name="/a")["Parameter"]["Value"] == "b"


@pytest.mark.parametrize(
    ("service", "operation", "params", "code"),
    [
        ("kms", "list_keys", {}, "UnsupportedOperationException"),
        ("rds", "describe_db_instances", {}, "UnsupportedOperationException"),
        ("ssm", "list_nodes", {}, "NotImplemented"),
        ("sts", "get_delegated_access_token", {"TradeInToken": "x"}, "NotImplemented"),
        ("s3", "get_object", {"Bucket": "nobody-has-this", "Key": "x"}, "NoSuchBucket"),
        ("codebuild", "create_webhook", {"projectName": "xy"}, "UnsupportedOperationException"),
        ("codebuild", "start_build_batch", {"projectName": "x"}, "InvalidInputException"),
    ],
)
def test_what_is_not_there_is_a_typed_error(sandbox, service, operation, params, code):
    with pytest.raises(ClientError) as caught:
        getattr(sandbox.client(service), operation)(**params)
    error = caught.value.response
    assert error["Error"]["Code"] == code
    assert "html" not in error["ResponseMetadata"]["HTTPHeaders"]["content-type"]


def test_a_bucket_survives_a_request_that_moto_would_misread(sandbox, bucket):
    s3 = sandbox.client("s3")
    with pytest.raises(ClientError, match="does not support"):
        s3.delete_bucket_metrics_configuration(Bucket=bucket, Id="x")
    s3.head_bucket(Bucket=bucket)


def test_requests_without_a_signature_get_no_page_either(sandbox):
    for path, headers in (
        ("/moto-api/data.json", {}),
        ("/", {"X-Amz-Target": "AmazonSSM.GetParameter"}),
        ("/", {"X-Amz-Target": "CodeBuild_20161006.Nothing"}),
        ("/no-such-bucket/key", {}),
    ):
        connection = http.client.HTTPConnection(sandbox.endpoint.removeprefix("http://"), timeout=10)
        connection.request("POST" if headers else "GET", path, headers=headers)
        response = connection.getresponse()
        assert response.status in (400, 403, 404, 501)
        body = response.read()
        assert b"<html" not in body.lower()
        assert b"Code>" in body or b"__type" in body


def test_a_connection_is_kept_and_reused(sandbox):
    host, _, port = sandbox.endpoint.removeprefix("http://").partition(":")
    request = b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        stream = connection.makefile("rb")
        for _ in range(2):
            connection.sendall(request)
            assert stream.readline().startswith(b"HTTP/1.1 404")
            length = 0
            while (line := stream.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            stream.read(length)


def test_a_taken_port_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_command("--state", str(tmp_path), "--port", str(port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["-1", "70000"])
def test_an_impossible_port_is_said(tmp_path, port):
    done = run_command("--state", str(tmp_path), "--port", port)
    assert done.returncode == 1
    assert "name another with --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    done = run_command("--state", str(tmp_path / "file" / "state"))
    assert done.returncode == 1
    assert "cannot be written (Not a directory). Name another with --state" in done.stderr


def test_two_sandboxes_do_not_share_a_state_folder(sandbox):
    done = run_command("--state", str(sandbox.state))
    assert done.returncode == 1
    assert "Another sandbox uses the state folder" in done.stderr


def start_sleeping_build(running, marker):
    codebuild = running.client("codebuild")
    spec = f"version: 0.2\nphases: {{build: {{commands: ['setsid sleep {marker} & sleep {marker}']}}}}"
    codebuild.create_project(
        name="sleeper",
        source={"type": "NO_SOURCE", "buildspec": spec},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "x", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole="role",
    )
    codebuild.start_build(projectName="sleeper")
    wait_until(lambda: count_of(f"sleep\0{marker}") == 2)


def count_of(marker):
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found += marker in (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it ended meanwhile
                continue
    return found


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_builds_and_the_server(start, tmp_path, signum):
    running = start(tmp_path)
    marker = f"32{os.getpid()}{signum}"
    start_sleeping_build(running, marker)
    running.process.send_signal(signum)
    assert running.process.wait(30) == 0
    assert count_of(f"sleep\0{marker}") == 0
    assert not (tmp_path / "ready.json").exists()
    assert "Traceback" not in (tmp_path / "sandbox.log").read_text()


def test_nothing_of_a_build_outlives_a_killed_server(start, tmp_path):
    running = start(tmp_path)
    marker = f"33{os.getpid()}"
    start_sleeping_build(running, marker)
    running.process.kill()
    running.process.wait()
    wait_until(lambda: count_of(f"sleep\0{marker}") == 0)


def test_boto3_finds_the_sandbox_through_the_environment(sandbox, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", sandbox.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    assert "projects" in boto3.client("codebuild", region_name="eu-central-1").list_projects()
