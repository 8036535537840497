"""A sandbox with one build at a time and short minutes: the queue, timeouts, and what starts again."""

import os
import threading
import time

import pytest
from botocore.exceptions import ClientError

from apps.sandbox.codebuild.queue import BuildQueue
from tests.sandbox.conftest import REGION, Builder
from tests.sandbox.test_codebuild_builds import commands, context_of, phases_of, pids_with, wait_for

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def limited(start, tmp_path_factory):
    """A sandbox in which the shortest timeout, five minutes, is two seconds."""
    running = start(tmp_path_factory.mktemp("limited"), "--builds-at-once", "1", "--build-minute", "0.4")
    yield running
    assert running.stop() == 0


@pytest.fixture
def builder(limited, request):
    name = f"test-{abs(hash(request.node.nodeid)):x}"
    limited.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    limited.client("s3").put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return Builder(limited, name, name.replace("test-", "project-"))


def test_a_build_out_of_time_is_timed_out_and_its_processes_are_gone(builder):
    marker = f"32{os.getpid()}"
    builder.upload({"buildspec.yml": commands(f"setsid sleep {marker} & sleep {marker}")})
    builder.create_project(timeoutInMinutes=2160)
    build = builder.wait(builder.start(timeoutInMinutesOverride=5))
    assert build["buildStatus"] == "TIMED_OUT", builder.log(build)
    assert build["timeoutInMinutes"] == 5
    phase = list(phases_of(build))[-3]  # BUILD, unless the machine was too busy to come so far
    assert phases_of(build)[phase] == "TIMED_OUT"
    assert context_of(build, phase) == {
        "statusCode": "BUILD_TIMED_OUT",
        "message": "Build has timed out after 5 minutes.",
    }
    assert list(phases_of(build))[-2:] == ["FINALIZING", "COMPLETED"]
    assert not pids_with(f"sleep\0{marker}")


def test_a_build_waits_for_its_turn_and_not_longer_than_it_may(builder):
    marker = f"33{os.getpid()}"
    builder.create_project(timeoutInMinutes=2160, queuedTimeoutInMinutes=480)
    version = builder.upload({"buildspec.yml": commands(f"sleep {marker}")})
    first = builder.start(sourceVersion=version)
    wait_for(lambda: pids_with(f"sleep\0{marker}"))
    version = builder.upload({"buildspec.yml": commands("echo my turn")})
    patient = builder.start(sourceVersion=version)
    stopped = builder.start(sourceVersion=version)
    impatient = builder.wait(builder.start(sourceVersion=version, queuedTimeoutInMinutesOverride=5))
    assert impatient["buildStatus"] == "TIMED_OUT"
    assert phases_of(impatient)["QUEUED"] == "TIMED_OUT"
    assert "PROVISIONING" not in phases_of(impatient)
    assert builder.describe(patient)["currentPhase"] == "QUEUED"
    builder.codebuild.stop_build(id=stopped)
    assert builder.wait(stopped)["buildStatus"] == "STOPPED"
    builder.codebuild.stop_build(id=first)
    assert builder.wait(first)["buildStatus"] == "STOPPED"
    build = builder.wait(patient)
    assert build["buildStatus"] == "SUCCEEDED", builder.log(build)
    queued = next(phase for phase in build["phases"] if phase["phaseType"] == "QUEUED")
    assert queued["endTime"] > queued["startTime"]


def test_a_build_is_retried_with_the_settings_that_it_had(builder):
    spec = commands('test "$ANSWER" = 42 && test ! -e fail')
    builder.create_project(timeoutInMinutes=2160)
    version = builder.upload({"buildspec.yml": spec, "fail": ""})
    variable = {"name": "ANSWER", "value": "42", "type": "PLAINTEXT"}
    first = builder.wait(builder.start(sourceVersion=version, environmentVariablesOverride=[variable]))
    assert first["buildStatus"] == "FAILED"
    builder.upload({"buildspec.yml": spec})
    builder.codebuild.update_project(name=builder.name, description="changed since", timeoutInMinutes=1000)
    answer = builder.codebuild.retry_build(id=first["arn"], idempotencyToken="once")["build"]
    again = builder.codebuild.retry_build(id=first["arn"], idempotencyToken="once")["build"]
    assert again["id"] == answer["id"] != first["id"]
    second = builder.wait(answer["id"])
    assert second["buildStatus"] == "FAILED"  # the same version of the source
    for member in ("sourceVersion", "environment", "timeoutInMinutes"):
        assert second[member] == first[member]
    assert second["buildNumber"] == first["buildNumber"] + 1
    with pytest.raises(builder.codebuild.exceptions.ResourceNotFoundException):
        builder.codebuild.retry_build(id="no:such")


def test_batch_builds_are_refused_by_name(builder):
    builder.create_project()
    with pytest.raises(builder.codebuild.exceptions.InvalidInputException, match="runs no batch builds"):
        builder.codebuild.start_build_batch(projectName=builder.name)
    for call in (builder.codebuild.stop_build_batch, builder.codebuild.retry_build_batch):
        with pytest.raises(ClientError, match="no build batch a:b"):
            call(id="a:b")
    assert builder.codebuild.list_build_batches()["ids"] == []
    assert builder.codebuild.list_build_batches_for_project(projectName=builder.name)["ids"] == []
    answer = builder.codebuild.batch_get_build_batches(ids=["a:b"])
    assert (answer["buildBatches"], answer["buildBatchesNotFound"]) == ([], ["a:b"])


def test_a_build_that_ends_before_its_turn_holds_nobody_up():
    queue = BuildQueue(at_once=1)
    queue.join("dead")
    queue.join("next")
    queue.leave("dead")
    start = time.monotonic()
    queue.enter("next", 30, threading.Event())
    assert time.monotonic() - start < 20
