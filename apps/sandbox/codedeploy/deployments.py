"""Operations on deployments and their targets."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from apps.sandbox.protocol import AwsError

from .applications import check_revision, remember_revision
from .engine import Engine
from .groups import check_config
from .state import (
    ACTIVE,
    FINAL,
    Deployment,
    LifecycleEvent,
    State,
    Target,
    matching_instances,
    refuse_unsupported,
)

PAGE_SIZE = 100
_BATCH_LIMIT = 25
_MAX_DESCRIPTION = 256
_CREATE = (
    "applicationName",
    "deploymentGroupName",
    "revision",
    "deploymentConfigName",
    "description",
    "ignoreApplicationStopFailures",
    "fileExistsBehavior",
)


class DeploymentOperations:
    """CreateDeployment and its like."""

    state: State
    engine: Engine

    def create_deployment(self, **params: Any) -> dict[str, Any]:
        """Begin a deployment to every instance of a group."""
        refuse_unsupported("CreateDeployment", params, _CREATE)
        if len(params.get("description", "")) > _MAX_DESCRIPTION:
            raise AwsError(
                "DescriptionTooLongException", f"The description has more than {_MAX_DESCRIPTION} characters."
            )
        with self.state.lock:
            application = self.state.application(params["applicationName"])
            if not params.get("deploymentGroupName"):
                raise AwsError("DeploymentGroupNameRequiredException", "Deployment group name is missing.")
            group = application.group(params["deploymentGroupName"])
            config = params.get("deploymentConfigName", group.config)
            check_config(config)
            revision = check_revision(params.get("revision"))
            if active := self.state.active(group):
                raise AwsError(
                    "DeploymentLimitExceededException",
                    f"The Deployment Group '{group.name}' already has an active Deployment '{active.id}'",
                )
            previous = group.last_successful
            instances = matching_instances(self.state.instances.values(), group)
            deployment = Deployment(
                id=self.state.new_deployment_id(),
                application=application.name,
                group=group,
                group_name=group.name,
                config=config,
                revision=revision,
                description=params.get("description"),
                ignore_stop_failures=params.get("ignoreApplicationStopFailures", False),
                file_exists_behavior=params.get("fileExistsBehavior", "DISALLOW"),
                previous_revision=previous.revision if previous else None,
                targets={instance.name: Target(instance) for instance in instances},
            )
            self.state.deployments[deployment.id] = deployment
            group.target_revision = revision
            group.last_attempted = deployment
            remember_revision(application, revision, None, group)
            self.engine.start(deployment)
        return {"deploymentId": deployment.id}

    def get_deployment(self, **params: Any) -> dict[str, Any]:
        """Describe a deployment."""
        with self.state.lock:
            return {"deploymentInfo": _info(self.state.deployment(params["deploymentId"]))}

    def batch_get_deployments(self, **params: Any) -> dict[str, Any]:
        """Describe several deployments; ids that do not exist are left out."""
        ids = params["deploymentIds"]
        if not ids:
            raise AwsError("DeploymentIdRequiredException", "Give at least one deployment id.")
        if len(ids) > _BATCH_LIMIT:
            raise AwsError("BatchLimitExceededException", f"At most {_BATCH_LIMIT} ids may be given.")
        with self.state.lock:
            known = self.state.deployments
            return {"deploymentsInfo": [_info(known[each]) for each in ids if each in known]}

    def list_deployments(self, **params: Any) -> dict[str, Any]:
        """Ids of deployments, newest first, by application and group, state and time of creation."""
        names = ("applicationName", "deploymentGroupName")
        refuse_unsupported(
            "ListDeployments", params, (*names, "includeOnlyStatuses", "createTimeRange", "nextToken")
        )
        with self.state.lock:
            self._check_list(params)
            times = params.get("createTimeRange", {})
            found = [
                deployment.id
                for deployment in reversed(self.state.deployments.values())
                if deployment.application == params.get("applicationName", deployment.application)
                and deployment.group_name == params.get("deploymentGroupName", deployment.group_name)
                and deployment.status in params.get("includeOnlyStatuses", ACTIVE | FINAL)
                and times.get("start", deployment.created) <= deployment.created
                and deployment.created <= times.get("end", deployment.created)
            ]
        return _page("deployments", found, params.get("nextToken"))

    def _check_list(self, params: dict[str, Any]) -> None:
        application, group = params.get("applicationName"), params.get("deploymentGroupName")
        if application and not group:
            raise AwsError(
                "DeploymentGroupNameRequiredException",
                "With an applicationName a deploymentGroupName must be given.",
            )
        if group and not application:
            raise AwsError(
                "ApplicationNameRequiredException",
                "With a deploymentGroupName an applicationName must be given.",
            )
        if application:
            self.state.application(application).group(str(group))
        times = params.get("createTimeRange", {})
        if {"start", "end"} <= times.keys() and times["start"] > times["end"]:
            raise AwsError("InvalidTimeRangeException", "The time range ends before it starts.")

    def stop_deployment(self, **params: Any) -> dict[str, Any]:
        """Let the events under way finish and begin no more."""
        refuse_unsupported("StopDeployment", params, ("deploymentId",))
        with self.state.lock:
            deployment = self.state.deployment(params["deploymentId"])
            if deployment.status in FINAL:
                raise AwsError(
                    "DeploymentAlreadyCompletedException",
                    f"The deployment {deployment.id} is already {deployment.status}",
                )
            deployment.stop.set()
        return {"status": "Pending", "statusMessage": "No further lifecycle event will be started."}

    def list_deployment_targets(self, **params: Any) -> dict[str, Any]:
        """Ids of a deployment's targets, all or those in certain states."""
        with self.state.lock:
            deployment = self.state.deployment(params.get("deploymentId", ""))
            filters = params.get("targetFilters", {})
            if unknown := filters.keys() - {"TargetStatus"}:
                raise AwsError(
                    "InvalidTargetFilterNameException", f"The sandbox has no filter {', '.join(unknown)}."
                )
            states = filters.get("TargetStatus", [])
            found = [
                name for name, target in deployment.targets.items() if not states or target.status in states
            ]
        return _page("targetIds", found, params.get("nextToken"))

    def get_deployment_target(self, **params: Any) -> dict[str, Any]:
        """Describe one target with its lifecycle events."""
        with self.state.lock:
            deployment = self.state.deployment(params["deploymentId"])
            return {"deploymentTarget": _target(deployment, params["targetId"])}

    def batch_get_deployment_targets(self, **params: Any) -> dict[str, Any]:
        """Describe several targets; a target that does not exist is an error."""
        ids = params["targetIds"]
        if not ids:
            raise AwsError("DeploymentTargetIdRequiredException", "Give at least one target id.")
        if len(ids) > _BATCH_LIMIT:
            raise AwsError(
                "DeploymentTargetListSizeExceededException", f"At most {_BATCH_LIMIT} ids may be given."
            )
        with self.state.lock:
            deployment = self.state.deployment(params["deploymentId"])
            return {"deploymentTargets": [_target(deployment, each) for each in ids]}


def _page(member: str, found: list[str], token: str | None) -> dict[str, Any]:
    """One page of ids. The token names the last id given, so that newer ones do not shift the pages."""
    start = 0
    if token:
        try:
            start = found.index(base64.b64decode(token, validate=True).decode()) + 1
        except (ValueError, binascii.Error):
            raise AwsError("InvalidNextTokenException", "The nextToken is not one of ours.") from None
    page = found[start : start + PAGE_SIZE]
    more = len(found) > start + PAGE_SIZE
    return {member: page, "nextToken": base64.b64encode(page[-1].encode()).decode() if more else None}


def _info(deployment: Deployment) -> dict[str, Any]:
    return {
        "applicationName": deployment.application,
        "deploymentGroupName": deployment.group_name,
        "deploymentConfigName": deployment.config,
        "deploymentId": deployment.id,
        "previousRevision": deployment.previous_revision,
        "revision": deployment.revision,
        "status": deployment.status,
        "errorInformation": deployment.error,
        "createTime": deployment.created,
        "startTime": deployment.started,
        "completeTime": deployment.completed,
        "deploymentOverview": deployment.overview(),
        "description": deployment.description,
        "creator": "user",
        "ignoreApplicationStopFailures": deployment.ignore_stop_failures,
        "updateOutdatedInstancesOnly": False,
        "deploymentStyle": {"deploymentType": "IN_PLACE", "deploymentOption": "WITHOUT_TRAFFIC_CONTROL"},
        "instanceTerminationWaitTimeStarted": False,
        "fileExistsBehavior": deployment.file_exists_behavior,
        "deploymentStatusMessages": [],
        "computePlatform": "Server",
    }


def _target(deployment: Deployment, target_id: str) -> dict[str, Any]:
    target = deployment.targets.get(target_id)
    if target is None:
        raise AwsError(
            "DeploymentTargetDoesNotExistException",
            f"The deployment {deployment.id} has no target {target_id}",
        )
    return {
        "deploymentTargetType": "InstanceTarget",
        "instanceTarget": {
            "deploymentId": deployment.id,
            "targetId": target_id,
            "targetArn": target.instance.arn,
            "status": target.status,
            "lastUpdatedAt": target.updated,
            "lifecycleEvents": [_event(event) for event in target.events],
        },
    }


def _event(event: LifecycleEvent) -> dict[str, Any]:
    return {
        "lifecycleEventName": event.name,
        "status": event.status,
        "startTime": event.start,
        "endTime": event.end,
        "diagnostics": event.diagnostics,
    }
