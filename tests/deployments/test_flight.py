"""Flight records are read from a real S3, as hosts leave them there."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.aws import s3
from apps.aws.errors import AwsError
from apps.deployments import flight
from apps.deployments.flight import LINGER_POLL, POLL, prefix_of, read_flight_records
from apps.deployments.models import Deployment, FlightRecord, FlightWatch
from apps.deployments.records import MAX_BYTES
from apps.leases import LeaseLost, take
from apps.promotions.reconcile import Reconciler
from tests.factories import (
    make_deployment,
    make_document,
    make_environment,
    make_release,
    make_service,
    make_target,
)

pytestmark = [pytest.mark.integration, pytest.mark.django_db]
EVENTS = ("BeforeInstall", "AfterInstall", "ApplicationStart")
LONG_AGO = timedelta(hours=1)


@pytest.fixture
def deployment(versioned_bucket):
    service = make_service(bucket=versioned_bucket)
    return make_deployment(make_environment(service), make_release(service), status="running")


@pytest.fixture
def target(deployment):
    return make_target(deployment, "staging-1", *EVENTS)


@pytest.fixture
def watch(deployment, target):
    return FlightWatch.objects.create(deployment=deployment)


@pytest.fixture
def put(aws, deployment):
    """A function that writes an object below the deployment's prefix, as a host does."""

    def put(name, body):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        key = prefix_of(deployment) + name
        aws.client("s3").put_object(Bucket=deployment.release.bucket, Key=key, Body=body)

    return put


@pytest.fixture
def asked(monkeypatch):
    """The keys that were read from S3."""
    keys = []
    download = s3.download

    def noting(**options):
        keys.append(options["key"].rpartition("/")[2])
        return download(**options)

    monkeypatch.setattr(s3, "download", noting)
    return keys


def look(watch):
    lease = take(FlightWatch.objects.filter(pk=watch.pk), owner="test", duration=timedelta(seconds=30))
    try:
        return read_flight_records(watch=watch, lease=lease)
    finally:
        lease.release()
        watch.refresh_from_db()


def event(target, name):
    return target.events.get(name=name)


def ended(deployment, ago=timedelta(0)):
    Deployment.objects.filter(pk=deployment.pk).update(status="failed", finished_at=timezone.now() - ago)


def test_new_and_changed_records_are_read_once(target, watch, put, asked):
    first = event(target, "BeforeInstall")
    put("staging-1/BeforeInstall.json", make_document(first, result="running", seconds=0.5))
    assert look(watch) == POLL
    record = FlightRecord.objects.get(event=first)
    assert (record.result, record.seconds, record.cause) == ("running", 0.5, "")
    assert record.object_version
    assert record.key.endswith("/staging-1/BeforeInstall.json")

    failed = make_document(first, result="failed", error="Full.", cause="no-space", exit_code=1)
    put("staging-1/BeforeInstall.json", failed)
    put("staging-1/AfterInstall.json", make_document(event(target, "AfterInstall")))
    look(watch)
    look(watch)
    record.refresh_from_db()
    assert (record.result, record.cause, record.document["error"]) == ("failed", "no-space", "Full.")
    assert asked == ["BeforeInstall.json", "AfterInstall.json", "BeforeInstall.json"]
    assert watch.problem == ""
    assert watch.looked_at is not None


def test_what_names_no_host_or_event_of_the_deployment_is_not_read(target, watch, put, asked):
    good = make_document(event(target, "BeforeInstall"))
    for name in (
        "staging-2/BeforeInstall.json",
        "staging-1/Reboot.json",
        "staging-1/BeforeInstall.json.tmp",
        "staging-1/deep/BeforeInstall.json",
        "BeforeInstall.json",
        "staging-1/\x01.json",
    ):
        put(name, good)
    look(watch)
    assert asked == []
    assert not FlightRecord.objects.exists()
    # The host joins; now it is known.
    make_target(watch.deployment, "staging-2", "BeforeInstall")
    look(watch)
    assert asked == ["BeforeInstall.json"]


def test_a_broken_record_is_kept_as_unreadable_and_does_not_stop_the_others(target, watch, put, asked):
    good = make_document(event(target, "ApplicationStart"))
    put("staging-1/AfterInstall.json", b"x" * (MAX_BYTES + 1))
    put("staging-1/ApplicationStart.json", good)
    put("staging-1/BeforeInstall.json", good)  # of another event
    look(watch)
    records = {record.event.name: record for record in FlightRecord.objects.select_related("event")}
    assert records["ApplicationStart"].result == "succeeded"
    assert records["BeforeInstall"].result == "unreadable"
    assert records["BeforeInstall"].problem == "Its event is not BeforeInstall, which its key names."
    assert records["AfterInstall"].result == "unreadable"
    assert "65,537 bytes; at most 65,536 are read" in records["AfterInstall"].problem
    assert "AfterInstall.json" not in asked
    look(watch)
    assert len(asked) == 2
    # Mended, it is a record again.
    put("staging-1/BeforeInstall.json", make_document(event(target, "BeforeInstall")))
    look(watch)
    assert FlightRecord.objects.get(event__name="BeforeInstall").result == "succeeded"


def test_what_a_host_wrote_reaches_postgresql_whatever_it_is(target, watch, put):
    document = make_document(event(target, "BeforeInstall"), error="NUL \0", tail=["\ud7ff\u2028 \x00"])
    put("staging-1/BeforeInstall.json", document)
    put("staging-1/AfterInstall.json", b'{"schema": "\\u0000\\ud800"}')
    look(watch)
    assert FlightRecord.objects.get(event__name="BeforeInstall").document["error"] == "NUL \ufffd"
    assert FlightRecord.objects.get(event__name="AfterInstall").result == "unreadable"


def test_a_look_makes_few_calls_and_the_next_goes_on(target, watch, put, asked, monkeypatch):
    monkeypatch.setattr(flight, "READS", 1)
    monkeypatch.setattr(flight, "PAGE", 2)
    for name in EVENTS:
        put(f"staging-1/{name}.json", make_document(event(target, name)))
    put("staging-1/Other thing.json", b"")
    for _ in range(4):
        look(watch)
    assert sorted(asked) == sorted(f"{name}.json" for name in EVENTS)
    assert FlightRecord.objects.count() == 3


def test_an_object_that_s3_does_not_give_does_not_hide_the_others(target, watch, put, monkeypatch):
    download = s3.download

    def refusing(**options):
        if "AfterInstall" in options["key"]:
            raise AwsError("S3 GetObject: AccessDenied: no", retryable=False, code="AccessDenied")
        return download(**options)

    for name in EVENTS:
        put(f"staging-1/{name}.json", make_document(event(target, name)))
    with monkeypatch.context() as patch:
        patch.setattr(s3, "download", refusing)
        with pytest.raises(AwsError):
            look(watch)
    assert FlightRecord.objects.count() == 2
    assert "AccessDenied" in watch.problem
    look(watch)
    assert FlightRecord.objects.count() == 3
    assert watch.problem == ""


def test_s3_away_is_written_down_and_tried_again(deployment, target, watch, put, monkeypatch, aws):
    put("staging-1/BeforeInstall.json", make_document(event(target, "BeforeInstall")))
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(AwsError):
            look(watch)
        assert "did not answer" in watch.problem
        ended(deployment, LONG_AGO)
        with pytest.raises(AwsError):
            look(watch)
        assert not watch.over
    look(watch)
    assert (watch.problem, watch.over) == ("", True)
    assert FlightRecord.objects.count() == 1


def test_it_is_over_some_minutes_after_the_deployments_end(deployment, target, watch, put):
    ended(deployment)
    assert look(watch) == LINGER_POLL
    assert not watch.over
    ended(deployment, LONG_AGO)
    put("staging-1/BeforeInstall.json", make_document(event(target, "BeforeInstall")))
    look(watch)
    assert watch.over
    assert FlightRecord.objects.exists()
    assert not FlightWatch.objects.open().exists()


def test_an_s3_that_never_answers_is_given_up_after_a_day(deployment, watch, aws, monkeypatch):
    ended(deployment, timedelta(days=2))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(AwsError):
        look(watch)
    assert watch.over


def test_without_the_lease_nothing_is_written(target, watch, put):
    put("staging-1/BeforeInstall.json", make_document(event(target, "BeforeInstall")))
    lease = take(FlightWatch.objects.all(), owner="test", duration=timedelta(seconds=30))
    FlightWatch.objects.update(lease_until=timezone.now())
    with pytest.raises(LeaseLost):
        read_flight_records(watch=watch, lease=lease)
    assert not FlightRecord.objects.exists()


def test_the_reconciler_reads_them_and_lives_with_s3_away(target, watch, put, monkeypatch):
    put("staging-1/BeforeInstall.json", make_document(event(target, "BeforeInstall")))
    reconciler = Reconciler()
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        assert reconciler.read_flight_records_of_one()
    assert not reconciler.read_flight_records_of_one()  # it rests
    FlightWatch.objects.update(lease_until=None)
    assert reconciler.read_flight_records_of_one()
    assert FlightRecord.objects.count() == 1
