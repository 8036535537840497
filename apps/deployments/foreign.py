"""Deployments that Lockkeeper did not ask for: from the console, of auto scaling, CodeDeploy's own rollback.

They are looked for in each environment's group, written down with their origin, and from then on followed
like any other (observe_deployment), which corrects what is said to run there.
"""

import uuid
from collections.abc import Iterable
from datetime import timedelta

from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from apps.aws import codedeploy
from apps.aws.errors import AwsError
from apps.catalog.models import Environment
from apps.deployments.models import Deployment, GroupWatch, Occupancy
from apps.deployments.services import CLOCK_SKEW, INTENT, lock_environment, storable
from apps.leases import Lease
from apps.ledger.services import record
from apps.releases.models import Release

Origin = Deployment.Origin

# CodeDeploy allows few calls a second in an account; a failed deployment and a busy group are looked at once.
LOOK_EVERY = timedelta(minutes=1)
# Nothing to look at, until somebody makes it: no error that a retry mends.
NO_GROUP = frozenset({"ApplicationDoesNotExistException", "DeploymentGroupDoesNotExistException"})
# https://docs.aws.amazon.com/codedeploy/latest/APIReference/API_DeploymentInfo.html (creator)
ORIGINS = {
    "codeDeployRollback": Origin.CODEDEPLOY_ROLLBACK,
    # To hosts that are new, or that were left behind: with what runs there already.
    "autoscaling": Origin.AUTO_SCALING,
    "autoscalingTermination": Origin.AUTO_SCALING,
    "CodeDeployAutoUpdate": Origin.AUTO_SCALING,
}


def watch_groups() -> None:
    """Begin to watch environments that are new: from when what runs there came, or they were set up."""
    runs = Occupancy.objects.current().filter(environment=OuterRef("pk")).values("since")[:1]
    unwatched = Environment.objects.filter(group_watch=None).annotate(
        begin=Coalesce(Subquery(runs), "created_at")
    )
    # Another worker may be at it as well.
    GroupWatch.objects.bulk_create(
        [GroupWatch(environment=each, seen_until=each.begin) for each in unwatched], ignore_conflicts=True
    )


def look_for_foreign(*, watch: GroupWatch, lease: Lease) -> timedelta:
    """Write down the group's deployments that are not known; call it with no transaction open.

    Returns how long there is nothing to look for. Raises LeaseLost when another worker took over, and
    AwsError when AWS could not be asked.
    """
    environment = Environment.objects.get(pk=watch.environment_id)
    began = timezone.now()
    try:
        ids = codedeploy.list_deployments(
            application=environment.application,
            group=environment.deployment_group,
            # ListDeployments may be seconds behind, and its clock is not ours.
            since=watch.seen_until - CLOCK_SKEW,
        )
        known = Deployment.objects.filter(codedeploy_id__in=ids).values_list("codedeploy_id", flat=True)
        infos = codedeploy.get_deployments(sorted(set(ids) - set(known)))
    except AwsError as error:
        lease.update(problem=storable(str(error)))
        if error.code in NO_GROUP:
            return LOOK_EVERY
        raise
    with transaction.atomic():
        if infos:
            environment = lock_environment(environment.pk)
        lease.hold()
        for info in sorted(infos, key=lambda info: info.created_at):
            if not _is_known(info):
                _write_down(info, environment)
        lease.update(seen_until=began, looked_at=began, problem="")
    return LOOK_EVERY


def _is_known(info: codedeploy.DeploymentInfo) -> bool:
    """Whether it is one of ours: noted meanwhile, or of an intent whose worker is still to hear of it."""
    ours = Deployment.objects.filter(codedeploy_id=info.id)
    intent = _intent(info.description)
    if intent and info.creator not in ORIGINS:
        waiting = {"intent": intent, "codedeploy_id": None, "status": Deployment.Status.INTENDED}
        ours |= Deployment.objects.filter(**waiting)
    return ours.exists()


def _intent(description: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(description.removeprefix(INTENT)) if description.startswith(INTENT) else None
    except ValueError:
        return None


def _write_down(info: codedeploy.DeploymentInfo, environment: Environment) -> None:
    release = _release(info.revision, environment)
    deployment = Deployment.objects.create(
        environment=environment,
        release=release,
        origin=ORIGINS.get(info.creator, Origin.OUTSIDE),
        # How far it is, and what becomes of it, is seen by following it.
        status=Deployment.Status.REQUESTED,
        codedeploy_id=info.id,
        creator=info.creator,
        description=storable(info.description),
        revision=storable(info.revision_text),
        rolls_back=info.rolls_back,
        created_at=info.created_at,
    )
    record(
        chain=environment.service.slug,
        action="deployment.seen",
        subject=f"deployment:{deployment.pk}",
        data={
            "environment": environment.slug,
            "codedeploy_id": info.id,
            "origin": deployment.origin,
            "creator": info.creator,
            "description": deployment.description,
            "revision": deployment.revision,
            "release": release.version if release else None,
            "rolls_back": info.rolls_back,
        },
    )


def _release(revision: codedeploy.S3Location | None, environment: Environment) -> Release | None:
    """The release that lies there. A version or eTag that is another's makes it another thing."""
    if revision is None:
        return None
    releases: Iterable[Release] = Release.objects.filter(
        service=environment.service_id, bucket=revision.bucket, key=revision.key
    ).defer("manifest", "steps")
    for release in releases:
        same_version = revision.version in ("", release.object_version)
        # The digest is in the key, and S3 keeps versions: without one, the key names the first of them.
        if same_version and revision.etag.strip('"') in ("", release.etag.strip('"')):
            return release
    return None


def origin_in_words(deployment: Deployment) -> str:
    """Where a foreign deployment came from and what it means, in a sentence or two; empty for ours."""
    release = deployment.release
    what = release.version if release else f"{deployment.revision or 'something'}, which is no known release,"
    creator = deployment.creator or "unknown"
    if deployment.origin == Origin.AUTO_SCALING:
        return (
            f"CodeDeploy brought {what} to new hosts by itself (creator {creator}); what runs in the "
            "environment is not changed by that."
        )
    if deployment.origin == Origin.CODEDEPLOY_ROLLBACK:
        undone = f"deployment {deployment.rolls_back}" if deployment.rolls_back else "a deployment"
        return f"CodeDeploy went back to {what} by itself, to undo {undone}."
    if deployment.origin == Origin.OUTSIDE:
        said = f", saying “{deployment.description}”" if deployment.description else ""
        return (
            f"Somebody deployed {what} without Lockkeeper, by the console or the API (creator "
            f"{creator}){said}. No gate has judged it."
        )
    return ""


def intruder(environment: Environment) -> Deployment | None:
    """What took the place of the last release: a foreign deployment of something that is none."""
    if Occupancy.objects.current().filter(environment=environment).exists():
        return None
    unknown = Deployment.objects.filter(
        environment=environment, release=None, status=Deployment.Status.SUCCEEDED
    )
    return unknown.exclude(origin=Origin.LOCKKEEPER).order_by("-finished_at").first()
