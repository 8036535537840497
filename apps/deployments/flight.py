"""Bring the flight records that hosts uploaded to S3 to their events.

A hook leaves a record on its host and a unit uploads it, so it comes a little after its event, or never.
Nothing is decided by records alone. Everything below the deployment's prefix is a host's word: what names no
known host and event is not even read.
"""

import io
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote, unquote

from django.db import transaction
from django.db.models.functions import Now

from apps.aws import s3
from apps.aws.errors import AwsError
from apps.deployments.models import Deployment, FlightRecord, FlightWatch, HookEvent
from apps.deployments.records import MAX_BYTES, Place, Unreadable, read_record
from apps.leases import Lease, database_time

PAGE = 1000  # keys of one listing, the most that S3 gives
READS = 20  # objects read at one look
POLL = timedelta(seconds=3)
# After its end a deployment is looked at for so long, since uploads are tried again.
LINGER = timedelta(minutes=10)
LINGER_POLL = timedelta(seconds=20)
# And no longer than this if S3 never answers.
GIVE_UP = timedelta(days=1)


@dataclass(frozen=True)
class Known:
    """An event whose record may lie in S3, and the eTag of what was read of it."""

    id: int
    name: str
    host: str
    etag: str | None


def prefix_of(deployment: Deployment) -> str:
    """What the keys of a deployment's records begin with."""
    environment = deployment.environment
    return f"flight/{environment.application}/{environment.deployment_group}/{deployment.codedeploy_id}/"


def read_flight_records(*, watch: FlightWatch, lease: Lease) -> timedelta:
    """Read the records that are new or changed; call it with no transaction open.

    One listing and at most READS objects at a time. Returns how long there is nothing to do for it. Raises
    LeaseLost, and AwsError when S3 could not be asked; then the next look goes on.
    """
    deployment = Deployment.objects.select_related("environment", "release").get(pk=watch.deployment_id)
    if deployment.release is None or not deployment.codedeploy_id:
        lease.update(over=True)
        return timedelta(0)
    # Before looking, so that what came until then is seen.
    lingered = _ended_before(deployment, LINGER)
    prefix, bucket = prefix_of(deployment), deployment.release.bucket
    try:
        page = s3.list_page(bucket=bucket, prefix=prefix, after=unquote(watch.after), limit=PAGE)
    except AwsError as error:
        lease.update(problem=_storable(str(error)), over=_ended_before(deployment, GIVE_UP))
        raise
    events = _events(deployment)
    after, reads, refused = unquote(watch.after), 0, None
    complete = not page.more
    for info in page.items:
        event = events.get(info.key.removeprefix(prefix))
        if event is not None and event.etag != info.etag:
            if reads == READS:
                complete = False
                break
            reads += 1
            # Each may take as long as a lease lasts.
            lease.renew()
            try:
                _read(info, event, deployment, lease)
            except AwsError as error:
                refused = error  # one object that S3 does not give must not hide the others
        after = info.key
    lease.update(
        after="" if complete else quote(after),
        looked_at=Now(),
        problem=_storable(str(refused)) if refused else "",
        over=complete and (_ended_before(deployment, GIVE_UP) if refused else lingered),
    )
    if refused:
        raise refused
    if not complete:
        return timedelta(0) if reads == READS else POLL
    return LINGER_POLL if deployment.status in Deployment.FINAL else POLL


def _events(deployment: Deployment) -> dict[str, Known]:
    """The deployment's events by what their records' keys end in."""
    rows = HookEvent.objects.filter(target__deployment=deployment)
    known = [Known(*row) for row in rows.values_list("pk", "name", "target__target_id", "record__etag")]
    return {f"{event.host}/{event.name}.json": event for event in known}


def _read(info: s3.ObjectInfo, event: Known, deployment: Deployment, lease: Lease) -> None:
    """Read one record and write it down, readable or not."""
    environment = deployment.environment
    place = Place(
        deployment_id=str(deployment.codedeploy_id),
        host=event.host,
        application=environment.application,
        group=environment.deployment_group,
        event=event.name,
    )
    body = io.BytesIO()
    etag, version, problem = info.etag, "", ""
    document: dict[str, Any] = {}
    try:
        # The listing tells the size, so what is too large is not even asked for.
        if info.size > MAX_BYTES:
            raise s3.TooLarge(info.bucket, info.key, info.size, MAX_BYTES)
        got = s3.download(bucket=info.bucket, key=info.key, into=body, limit=MAX_BYTES)
        etag, version = got.etag, got.version
        document = read_record(body.getvalue(), place)
    except (Unreadable, s3.TooLarge) as error:
        problem = str(error)
    except AwsError as error:
        if s3.is_missing(error):
            return  # removed since it was listed
        raise
    with transaction.atomic():
        lease.hold()
        FlightRecord.objects.update_or_create(
            event_id=event.id,
            defaults={
                "key": info.key,
                "etag": etag,
                "object_version": version,
                "document": document,
                "result": document.get("result", FlightRecord.Result.UNREADABLE),
                "problem": _storable(problem),
                "cause": document.get("cause") or "",
                "seconds": document.get("seconds"),
                "read_at": Now(),
            },
        )


def _ended_before(deployment: Deployment, age: timedelta) -> bool:
    """Whether the deployment came to its end at least so long ago, by PostgreSQL's clock."""
    ended = Deployment.objects.filter(pk=deployment.pk, status__in=Deployment.FINAL)
    return ended.filter(finished_at__lte=database_time(-age)).exists()


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd")[:2000]
