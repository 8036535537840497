"""Deployments and targets as the API describes them."""

from __future__ import annotations

from typing import Any

from apps.sandbox.protocol import AwsError

from .rollback import rollback_info
from .state import Deployment, LifecycleEvent, State


def describe_deployment(state: State, deployment: Deployment) -> dict[str, Any]:
    """DeploymentInfo; hold the state's lock."""
    groups = [{"name": name} for name in deployment.target_groups]
    return {
        "applicationName": deployment.application,
        "deploymentGroupName": deployment.group_name,
        "deploymentConfigName": deployment.config.name,
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
        "creator": "codeDeployRollback" if deployment.rolls_back else "user",
        "ignoreApplicationStopFailures": deployment.ignore_stop_failures,
        "autoRollbackConfiguration": deployment.auto_rollback or None,
        "updateOutdatedInstancesOnly": False,
        "rollbackInfo": rollback_info(state, deployment),
        "deploymentStyle": {
            "deploymentType": "IN_PLACE",
            "deploymentOption": "WITH_TRAFFIC_CONTROL" if groups else "WITHOUT_TRAFFIC_CONTROL",
        },
        "instanceTerminationWaitTimeStarted": False,
        "loadBalancerInfo": {"targetGroupInfoList": groups} if groups else None,
        "fileExistsBehavior": deployment.file_exists_behavior,
        "deploymentStatusMessages": deployment.messages,
        "computePlatform": "Server",
    }


def describe_target(deployment: Deployment, target_id: str) -> dict[str, Any]:
    """DeploymentTarget. Raises AwsError if the deployment has none of that id."""
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
