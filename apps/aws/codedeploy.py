"""CodeDeploy: deployments, their targets and lifecycle events."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from apps.aws.errors import AwsError, translated
from apps.aws.session import client

if TYPE_CHECKING:
    from mypy_boto3_codedeploy import CodeDeployClient
    from mypy_boto3_codedeploy.type_defs import (
        DeploymentInfoTypeDef,
        DeploymentTargetTypeDef,
        RevisionLocationTypeDef,
        S3LocationTypeDef,
    )

BATCH = 25  # the most that BatchGetDeployments and BatchGetDeploymentTargets take


@dataclass(frozen=True)
class S3Location:
    """A revision in S3."""

    bucket: str
    key: str
    version: str
    etag: str
    bundle_type: str = "tar"


@dataclass(frozen=True)
class DeploymentInfo:
    """A deployment as CodeDeploy describes it; ``status`` is CodeDeploy's own word."""

    id: str
    application: str
    group: str
    status: str
    description: str
    creator: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    error_code: str
    error_message: str
    revision: S3Location | None  # None for a revision that does not lie in S3
    revision_text: str = ""  # whatever it is, as people read it
    rolls_back: str = ""  # of CodeDeploy's own rollback: the deployment that it undoes


@dataclass(frozen=True)
class LifecycleEvent:
    """One event on one target; ``diagnostics_*`` are empty unless a script ran."""

    name: str
    status: str
    started_at: datetime | None
    ended_at: datetime | None
    error_code: str = ""
    script_name: str = ""
    message: str = ""
    log_tail: str = ""


@dataclass(frozen=True)
class TargetInfo:
    """A host in a deployment, with its events in order."""

    id: str
    status: str
    updated_at: datetime | None
    events: list[LifecycleEvent] = field(default_factory=list)


def create_deployment(
    *, application: str, group: str, revision: S3Location, description: str, timeout: float = 10.0
) -> str:
    """Start a deployment and return its id.

    CreateDeployment has no client token, so it is sent exactly once. After a retryable AwsError nobody
    knows whether it was carried out: look for ``description`` with list_deployments before asking again.
    """
    with translated("CodeDeploy CreateDeployment"):
        answer = _codedeploy(read_timeout=timeout, attempts=1).create_deployment(
            applicationName=application,
            deploymentGroupName=group,
            description=description,
            revision={
                "revisionType": "S3",
                "s3Location": {
                    "bucket": revision.bucket,
                    "key": revision.key,
                    "version": revision.version,
                    "eTag": revision.etag,
                    "bundleType": revision.bundle_type,  # type: ignore[typeddict-item]  # botocore checks it
                },
            },
        )
    if not answer.get("deploymentId"):
        # botocore takes an answer that was cut off for an empty one.
        raise AwsError(
            "CodeDeploy CreateDeployment: the answer was cut off", retryable=True, code="IncompleteAnswer"
        )
    return answer["deploymentId"]


def get_deployments(ids: Sequence[str]) -> list[DeploymentInfo]:
    """Describe deployments by id; those that CodeDeploy does not know are left out."""
    found: list[DeploymentInfo] = []
    for start in range(0, len(ids), BATCH):
        with translated("CodeDeploy BatchGetDeployments"):
            answer = _codedeploy().batch_get_deployments(deploymentIds=list(ids[start : start + BATCH]))
        found += [_deployment(info) for info in answer["deploymentsInfo"]]
    return found


def list_deployments(*, application: str, group: str, since: datetime | None = None) -> list[str]:
    """Ids of a group's deployments, of those created since then if given; newest first, as AWS lists them."""
    arguments: dict[str, object] = {"applicationName": application, "deploymentGroupName": group}
    if since is not None:
        arguments["createTimeRange"] = {"start": since}
    ids: list[str] = []
    with translated("CodeDeploy ListDeployments"):
        for page in _codedeploy().get_paginator("list_deployments").paginate(**arguments):  # type: ignore[arg-type]  # built above
            ids += page.get("deployments", [])
    return ids


def get_targets(deployment_id: str) -> list[TargetInfo]:
    """Every target of a deployment with its lifecycle events."""
    ids: list[str] = []
    with translated("CodeDeploy ListDeploymentTargets"):
        # botocore has no paginator for targets.
        token = ""
        while True:
            more = {"nextToken": token} if token else {}
            page = _codedeploy().list_deployment_targets(deploymentId=deployment_id, **more)  # type: ignore[arg-type]  # a str
            ids += page.get("targetIds", [])
            token = page.get("nextToken", "")
            if not token:
                break
    found: list[TargetInfo] = []
    for start in range(0, len(ids), BATCH):
        with translated("CodeDeploy BatchGetDeploymentTargets"):
            answer = _codedeploy().batch_get_deployment_targets(
                deploymentId=deployment_id, targetIds=ids[start : start + BATCH]
            )
        found += [_target(target) for target in answer["deploymentTargets"]]
    return found


def _deployment(info: "DeploymentInfoTypeDef") -> DeploymentInfo:
    error = info.get("errorInformation", {})
    revision = info.get("revision", {})
    location = revision.get("s3Location")
    return DeploymentInfo(
        id=info["deploymentId"],
        application=info.get("applicationName", ""),
        group=info.get("deploymentGroupName", ""),
        status=info.get("status", ""),
        description=info.get("description", ""),
        creator=info.get("creator", ""),
        created_at=info["createTime"],
        started_at=info.get("startTime"),
        completed_at=info.get("completeTime"),
        error_code=error.get("code", ""),
        error_message=error.get("message", ""),
        revision=_location(location) if location else None,
        revision_text=_revision_text(revision),
        rolls_back=info.get("rollbackInfo", {}).get("rollbackTriggeringDeploymentId", ""),
    )


def _revision_text(revision: "RevisionLocationTypeDef") -> str:
    if location := revision.get("s3Location"):
        version = f" version {location['version']}" if location.get("version") else ""
        return f"s3://{location.get('bucket', '')}/{location.get('key', '')}{version}"
    if github := revision.get("gitHubLocation"):
        return f"github.com/{github.get('repository', '')} at {github.get('commitId', '')}"
    return str(revision.get("revisionType", ""))


def _location(location: "S3LocationTypeDef") -> S3Location:
    return S3Location(
        bucket=location.get("bucket", ""),
        key=location.get("key", ""),
        version=location.get("version", ""),
        etag=location.get("eTag", "").strip('"'),
        bundle_type=location.get("bundleType", ""),
    )


def _target(target: "DeploymentTargetTypeDef") -> TargetInfo:
    # Hosts only: a service on Lambda, ECS or CloudFormation has other targets, with no hooks of ours.
    instance = target.get("instanceTarget", {})
    events = []
    for event in instance.get("lifecycleEvents", []):
        diagnostics = event.get("diagnostics", {})
        events.append(
            LifecycleEvent(
                name=event.get("lifecycleEventName", ""),
                status=event.get("status", ""),
                started_at=event.get("startTime"),
                ended_at=event.get("endTime"),
                error_code=diagnostics.get("errorCode", ""),
                script_name=diagnostics.get("scriptName", ""),
                message=diagnostics.get("message", ""),
                log_tail=diagnostics.get("logTail", ""),
            )
        )
    return TargetInfo(
        id=instance.get("targetId", ""),
        status=instance.get("status", "Unknown"),
        updated_at=instance.get("lastUpdatedAt"),
        events=events,
    )


def _codedeploy(*, read_timeout: float = 10.0, attempts: int = 2) -> "CodeDeployClient":
    codedeploy: CodeDeployClient = client("codedeploy", read_timeout=read_timeout, attempts=attempts)
    return codedeploy
