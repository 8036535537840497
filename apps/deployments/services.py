"""Tell CodeDeploy what was intended, once, and write down what comes of it.

CreateDeployment has no client token. So the intent's id travels in the description, the call is sent once,
and where no answer came the deployments of the group are searched for that id; only after a grace longer
than the call and the lease together is it sent again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from apps.aws import codedeploy
from apps.aws.errors import AwsError
from apps.catalog.models import Environment
from apps.deployments.causes import OF_THE_PREVIOUS, Cause, cause_of
from apps.deployments.models import Deployment, FlightWatch, GroupWatch, HookEvent, Occupancy, Target
from apps.leases import Lease, LeaseLost, database_time, wake
from apps.ledger.services import record

# Called in the transaction that moved a deployment, after its rows were written.
Moved = Callable[[Deployment], None]
Status = Deployment.Status

# How a description begins that carries an intent.
INTENT = "lockkeeper:"
CREATE_TIMEOUT = 10.0  # seconds
# CreateDeployment's timeout with connecting (12 s), and the seconds that ListDeployments may be behind; to
# it comes the lease, within which a worker may still send what it was about to send.
ANSWER_WITHIN = timedelta(seconds=45)
GRACE = ANSWER_WITHIN + timedelta(seconds=30)
POLL = timedelta(seconds=2)
BUSY_REST = timedelta(seconds=10)
# Between writing "asked at" and sending; a worker that was asleep for longer has lost its right to ask.
SEND_WITHIN = 5.0  # seconds
# CodeDeploy's clock may be behind ours when a deployment is looked for by its time.
CLOCK_SKEW = timedelta(minutes=10)
# A deployment that CodeDeploy has just made may not be described at once.
SHOWS_WITHIN = timedelta(minutes=1)

BUSY = "DeploymentLimitExceededException"
# Errors after which it is certain that nothing was made, although the same call may succeed later:
# AWS refused before working on it, or no connection came about.
NOT_MADE = frozenset(
    {
        BUSY,
        "ConnectTimeoutError",
        "EndpointConnectionError",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
UNDER_WAY = {
    "Created": Status.REQUESTED,
    "Queued": Status.REQUESTED,
    "InProgress": Status.RUNNING,
    "Baking": Status.RUNNING,
    "Ready": Status.RUNNING,
}
ENDED = {"Succeeded": Status.SUCCEEDED, "Failed": Status.FAILED, "Stopped": Status.STOPPED}
# Events before the release's own code is reached (DownloadBundle, and hooks of the previous revision), and
# the load balancer's.
NOT_OF_THE_RELEASE = OF_THE_PREVIOUS | {"BlockTraffic", "DownloadBundle", "AllowTraffic"}


@dataclass(frozen=True)
class Failure:
    """Why a deployment failed, and whether the release is to blame (otherwise it is us or AWS)."""

    sentence: str
    by_release: bool
    cause: Cause | None = None


def description_of(deployment: Deployment) -> str:
    """What CodeDeploy is given as description: how an intent is found again."""
    return f"{INTENT}{deployment.intent}"


def request_deployment(
    *, deployment: Deployment, lease: Lease, moved: Moved | None = None, grace: timedelta = GRACE
) -> timedelta:
    """Tell CodeDeploy about an intended deployment; call it with no transaction open.

    Returns how long there is nothing to do for it. Raises LeaseLost when another worker took over, and
    AwsError when AWS could not be asked; then nothing is certain and the next call looks first. A definite
    refusal ends the deployment as failed.
    """
    deployment.refresh_from_db()
    if deployment.status != Status.INTENDED:
        return timedelta(0)
    # Whoever asked before this worker may have been heard without noting it.
    if deployment.asked_at is not None:
        with _noting(lease):
            found = _find(deployment)
        if found:
            return _requested(deployment, lease, found)
        answered = bool(deployment.error_code)
        if not answered and not _asked_before(deployment, grace):
            lease.update(error_message="No answer came to CreateDeployment; looking for the deployment.")
            return POLL
    return _ask(deployment, lease, moved)


def observe_deployment(*, deployment: Deployment, lease: Lease, moved: Moved | None = None) -> timedelta:
    """Write down how far CodeDeploy is, with every host and event; call it with no transaction open.

    On success Occupancy moves in the same transaction as the deployment's end, as does whatever ``moved``
    writes. Returns how long there is nothing to do for it. Raises LeaseLost and AwsError.
    """
    deployment.refresh_from_db()
    if deployment.status not in Deployment.ACTIVE or not deployment.codedeploy_id:
        return timedelta(0)
    with _noting(lease):
        described = codedeploy.get_deployments([deployment.codedeploy_id])
        targets = _targets(deployment.codedeploy_id) if described else []
    if not described:
        if not _asked_before(deployment, SHOWS_WITHIN):
            return POLL
        message = f"CodeDeploy does not know {deployment.codedeploy_id} any more."
        _fail(deployment, lease, "DeploymentDoesNotExistException", message, moved)
        return timedelta(0)
    info = described[0]
    status = ENDED.get(info.status) or UNDER_WAY.get(info.status)
    if status is None:
        raise AwsError(
            f"CodeDeploy calls {info.id} {info.status!r}, which this version does not know.",
            retryable=True,
            code="UnknownStatus",
        )
    ended = status in Deployment.FINAL
    with transaction.atomic():
        # Environment before deployment, as everywhere.
        environment = lock_environment(deployment.environment_id)
        lease.hold()
        _write_targets(deployment, targets)
        before = deployment.status
        deployment.status = status
        deployment.started_at = info.started_at or deployment.started_at
        deployment.finished_at = (info.completed_at or timezone.now()) if ended else None
        deployment.error_code, deployment.error_message = info.error_code, storable(info.error_message)
        deployment.save(update_fields=["status", "started_at", "finished_at", "error_code", "error_message"])
        if status == Status.SUCCEEDED and not unproved(deployment):
            _occupy(deployment)
        if moved:
            moved(deployment)
        if status != before:
            _record(deployment, environment, f"deployment.{status}")
            if status in (Status.FAILED, Status.STOPPED):
                # CodeDeploy's own rollback may follow.
                _look_around(deployment)
            if deployment.release_id:
                # From now on its hosts may write flight records.
                FlightWatch.objects.get_or_create(deployment=deployment)
    return timedelta(0) if ended else POLL


def is_proving(deployment: Deployment) -> bool:
    """Whether every host has come to ValidateService, where a release proves itself."""
    begun = ("InProgress", "Succeeded")
    events = HookEvent.objects.filter(name="ValidateService", status__in=begun).values("target")
    targets = Target.objects.filter(deployment=deployment)
    return targets.exists() and not targets.exclude(pk__in=events).exists()


def unproved(deployment: Deployment) -> list[str]:
    """Hosts on which a deployment did not succeed.

    CodeDeploy calls a deployment a success when enough hosts are healthy, so there may be some.
    """
    targets = Target.objects.filter(deployment=deployment).order_by("target_id")
    statuses = list(targets.values_list("target_id", "status"))
    if not statuses:
        return ["any host"]
    return [target_id for target_id, status in statuses if status != "Succeeded"]


def failure_of(deployment: Deployment) -> Failure:
    """The first failed event of a failed deployment, with its host, message and known cause with the way out.

    Where no event failed it is AWS's own reason.
    """
    failed = HookEvent.objects.filter(target__deployment=deployment, status="Failed")
    event = (
        failed.select_related("target", "record")
        .order_by("finished_at", "target__target_id", "position")
        .first()
    )
    if event is None:
        code = f" ({deployment.error_code})" if deployment.error_code else ""
        message = deployment.error_message or "CodeDeploy gave no reason"
        return Failure(f"{message.rstrip('.')}{code}.", by_release=False)
    said = event.message.strip() or event.error_code or "no message"
    # The agent's log ends in the line that tells most, but is empty after one that is too long.
    last = next((line.strip() for line in reversed(event.log_tail.splitlines()) if line.strip()), "")
    last = last or recorded(event, "error")
    detail = f": {last}" if last and last not in said else ""
    sentence = f"{event.name} failed on {event.target.target_id}: {said.rstrip('.')}{detail}"
    by_release = event.name not in NOT_OF_THE_RELEASE
    cause = cause_of_event(event)
    if cause is not None:
        sentence = f"{sentence.rstrip('.')}. {cause.sentence} {cause.way_out}"
        by_release = by_release and cause.by_release
    return Failure(sentence, by_release=by_release, cause=cause)


def cause_of_event(event: HookEvent) -> Cause | None:
    """The known cause of an event that failed; its record, if there is one, should come with it."""
    if event.status != "Failed":
        return None
    return cause_of(
        event=event.name,
        error_code=event.error_code,
        message=event.message,
        log_tail=event.log_tail or recorded(event, "error"),
        recorded=recorded(event, "cause"),
    )


def recorded(event: HookEvent, name: str) -> str:
    """A text of the event's flight record; empty where there is no record."""
    record = getattr(event, "record", None)  # the other end of a one-to-one raises without one
    return str(record.document.get(name) or "") if record else ""


@contextmanager
def _noting(lease: Lease) -> Iterator[None]:
    """Write on the deployment why AWS could not be asked, so that people see what it waits for."""
    try:
        yield
    except AwsError as error:
        lease.update(error_message=storable(str(error)))
        raise


def _find(deployment: Deployment) -> str | None:
    """The id of the deployment that carries this intent, if CodeDeploy shows one."""
    environment = deployment.environment
    since = (deployment.asked_at or deployment.created_at) - CLOCK_SKEW
    # The intent is older than any deployment made for it.
    since = min(since, deployment.created_at - CLOCK_SKEW)
    ids = codedeploy.list_deployments(
        application=environment.application, group=environment.deployment_group, since=since
    )
    wanted = description_of(deployment)
    found = [info for info in codedeploy.get_deployments(ids) if info.description == wanted]
    return min(found, key=lambda info: info.created_at).id if found else None


def _ask(deployment: Deployment, lease: Lease, moved: Moved | None) -> timedelta:
    environment, release = deployment.environment, deployment.release
    if release is None:
        _fail(deployment, lease, "NoRelease", "There is no release to deploy.", moved)
        return timedelta(0)
    # Before the call, so that whoever takes over knows that it may have been made.
    began = lease.renew(asked_at=database_time(), error_code="", error_message="")
    if time.monotonic() - began > SEND_WITHIN:
        raise LeaseLost(f"deployment {deployment.pk}: too long between taking the lease and asking")
    try:
        codedeploy_id = codedeploy.create_deployment(
            application=environment.application,
            group=environment.deployment_group,
            revision=codedeploy.S3Location(
                bucket=release.bucket,
                key=release.key,
                version=release.object_version,
                etag=release.etag,
            ),
            description=description_of(deployment),
            timeout=CREATE_TIMEOUT,
        )
    except AwsError as error:
        if error.code in NOT_MADE:
            lease.update(error_code=error.code, error_message=storable(str(error)))
            if error.code == BUSY:
                # With what somebody else has deployed, perhaps.
                _look_around(deployment)
                return BUSY_REST
            raise
        if error.retryable:
            # Nobody knows whether it was made.
            lease.update(error_message=storable(str(error)))
            raise
        _fail(deployment, lease, error.code, str(error), moved)
        return timedelta(0)
    return _requested(deployment, lease, codedeploy_id)


def _requested(deployment: Deployment, lease: Lease, codedeploy_id: str) -> timedelta:
    with transaction.atomic():
        environment = lock_environment(deployment.environment_id)
        lease.update(status=Status.REQUESTED, codedeploy_id=codedeploy_id, error_code="", error_message="")
        deployment.refresh_from_db()
        _record(deployment, environment, "deployment.requested")
    return timedelta(0)


def _fail(deployment: Deployment, lease: Lease, code: str, message: str, moved: Moved | None) -> None:
    with transaction.atomic():
        environment = lock_environment(deployment.environment_id)
        lease.hold()
        deployment.status = Status.FAILED
        deployment.error_code, deployment.error_message = code, storable(message)
        deployment.finished_at = timezone.now()
        deployment.save(update_fields=["status", "error_code", "error_message", "finished_at"])
        if moved:
            moved(deployment)
        _record(deployment, environment, "deployment.failed")


def _asked_before(deployment: Deployment, age: timedelta) -> bool:
    """Whether CreateDeployment was sent at least so long ago, by PostgreSQL's clock."""
    asked = Deployment.objects.filter(pk=deployment.pk, asked_at__lte=database_time(-age))
    return asked.exists()


def _targets(codedeploy_id: str) -> list[codedeploy.TargetInfo]:
    try:
        return codedeploy.get_targets(codedeploy_id)
    except AwsError as error:
        if error.code == "DeploymentNotStartedException":
            return []
        raise


def _write_targets(deployment: Deployment, infos: list[codedeploy.TargetInfo]) -> None:
    targets = Target.objects.bulk_create(
        [
            Target(deployment=deployment, target_id=info.id, status=info.status, updated_at=info.updated_at)
            for info in infos
        ],
        update_conflicts=True,
        unique_fields=["deployment", "target_id"],
        update_fields=["status", "updated_at"],
    )
    HookEvent.objects.bulk_create(
        [
            HookEvent(
                target=target,
                position=position,
                name=event.name,
                status=event.status,
                started_at=event.started_at,
                finished_at=event.ended_at,
                error_code=event.error_code,
                script=storable(event.script_name),
                message=storable(event.message),
                log_tail=storable(event.log_tail),
            )
            for target, info in zip(targets, infos, strict=True)
            for position, event in enumerate(info.events)
        ],
        update_conflicts=True,
        unique_fields=["target", "name"],
        update_fields=["position", *HookEvent.TOLD],
    )


def _occupy(deployment: Deployment) -> None:
    """From the deployment's end on, its release is what runs there; nothing known, if it is of none.

    What comes to new hosts only changes nothing, nor does a foreign deployment of what runs already.
    """
    if deployment.finished_at is None or deployment.origin == Deployment.Origin.AUTO_SCALING:
        return
    foreign = deployment.origin != Deployment.Origin.LOCKKEEPER
    stays = Occupancy.objects.filter(environment=deployment.environment_id)
    since, until = deployment.finished_at, None
    previous = stays.current().select_related("deployment").first()
    if previous is not None and (foreign or previous.deployment.origin != Deployment.Origin.LOCKKEEPER):
        if (previous.deployment.finished_at or previous.since) > since:
            # It is heard of late: something newer has taken its place.
            until = previous.since
            previous = stays.filter(since__lte=since, until__gt=since).order_by("-since").first()
        if foreign and previous is not None and previous.release_id == deployment.release_id:
            return
    if previous is not None:
        # AWS's clock is not ours: an end is never before its beginning.
        since = max(since, previous.since)
        stays.filter(pk=previous.pk).update(until=since)
    if deployment.release_id is None:
        return
    Occupancy.objects.create(
        environment_id=deployment.environment_id,
        release_id=deployment.release_id,
        deployment=deployment,
        since=since,
        until=max(since, until) if until else None,
    )


def _look_around(deployment: Deployment) -> None:
    """Have the group looked at for foreign deployments soon."""
    wake(GroupWatch.objects.filter(environment=deployment.environment_id))


def lock_environment(pk: int) -> Environment:
    """The environment, locked for the rest of the transaction: who moves what runs there moves alone."""
    rows = Environment.objects.select_for_update(no_key=True, of=("self",)).select_related("service")
    return rows.get(pk=pk)


def _record(deployment: Deployment, environment: Environment, action: str) -> None:
    record(
        chain=environment.service.slug,
        action=action,
        subject=f"deployment:{deployment.pk}",
        data={
            "environment": environment.slug,
            "release": deployment.release_id,
            "codedeploy_id": deployment.codedeploy_id,
            **({"origin": deployment.origin} if deployment.origin != Deployment.Origin.LOCKKEEPER else {}),
            "error_code": deployment.error_code,
            "error_message": deployment.error_message,
        },
    )


def storable(text: str) -> str:
    """Text that PostgreSQL takes: what a hook wrote may hold NUL characters."""
    return text.replace("\0", "\ufffd")
