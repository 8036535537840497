"""CodeDeploy's own rollback: a new deployment of the revision that succeeded last in the group.

https://docs.aws.amazon.com/codedeploy/latest/userguide/deployments-rollback-and-redeploy.html
"""

from __future__ import annotations

from typing import Any

from .applications import remember_revision
from .fleet import instances_of, new_targets
from .state import Deployment, State


def roll_back(state: State, ended: Deployment) -> Deployment | None:
    """Make the deployment that undoes one, if it is to be undone and can be; hold the state's lock."""
    if not _is_wanted(ended):
        return None
    group = ended.group
    good = group.last_successful
    if good is None:
        ended.rollback_refused = f"No deployment to {group.name} has succeeded before."
        return None
    application = state.applications.get(ended.application)
    if application is None or application.groups.get(group.name) is not group:
        ended.rollback_refused = f"The deployment group {group.name} has been deleted."
        return None
    made = Deployment(
        id=state.new_deployment_id(),
        application=ended.application,
        group=group,
        config=ended.config,
        revision=good.revision,
        targets=new_targets(instances_of(state, group), group),
        ignore_stop_failures=ended.ignore_stop_failures,
        file_exists_behavior=ended.file_exists_behavior,
        auto_rollback=ended.auto_rollback,
        previous_revision=good.revision,
        rolls_back=ended.id,
        target_groups=group.target_groups,
        messages=list(ended.messages),
    )
    ended.rolled_back_by = made.id
    state.deployments[made.id] = made
    group.target_revision = made.revision
    group.last_attempted = made
    remember_revision(application, made.revision, None, group)
    return made


def rollback_info(state: State, deployment: Deployment) -> dict[str, Any] | None:
    """What a deployment says of its rollback, or of the deployment that it rolls back."""
    if other := deployment.rolls_back:
        message = f"Rolls back the deployment {other} to the revision that succeeded last."
        return {"rollbackTriggeringDeploymentId": other, "rollbackMessage": message}
    if other := deployment.rolled_back_by:
        message = f"Rolled back by the deployment {other}, which is {state.deployments[other].status}."
        return {"rollbackDeploymentId": other, "rollbackMessage": message}
    if deployment.rollback_refused:
        return {"rollbackMessage": f"Cannot be rolled back. {deployment.rollback_refused}"}
    return None


def _is_wanted(ended: Deployment) -> bool:
    if ended.rolls_back or ended.status == "Succeeded":
        return False  # a rollback that fails is not rolled back
    if ended.stop.is_set() and ended.stop_rolls_back is not None:
        return ended.stop_rolls_back
    configuration = ended.auto_rollback
    event = "DEPLOYMENT_FAILURE" if ended.status == "Failed" else "DEPLOYMENT_STOP_ON_REQUEST"
    return bool(configuration.get("enabled")) and event in configuration.get("events", ())
