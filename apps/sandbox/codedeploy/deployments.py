"""Operations on deployments and their targets."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from apps.sandbox.protocol import AwsError

from .applications import check_revision, remember_revision
from .describe import describe_deployment, describe_target
from .engine import Engine
from .fleet import instances_of, new_targets
from .groups import check_auto_rollback
from .state import ACTIVE, FINAL, Deployment, State, refuse_unsupported

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
    "autoRollbackConfiguration",
)
# Said in every deployment to a group that names alarms.
ALARMS_IGNORED = "The sandbox evaluates no alarms and ignores those of the deployment group: "


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
            config = self.state.config(params.get("deploymentConfigName", group.config))
            auto_rollback = params.get(
                "autoRollbackConfiguration", group.settings.get("autoRollbackConfiguration", {})
            )
            check_auto_rollback(auto_rollback)
            revision = check_revision(params.get("revision"))
            if active := self.state.active(group):
                raise AwsError(
                    "DeploymentLimitExceededException",
                    f"The Deployment Group '{group.name}' already has an active Deployment '{active.id}'",
                )
            previous = group.last_successful
            deployment = Deployment(
                id=self.state.new_deployment_id(),
                application=application.name,
                group=group,
                config=config,
                revision=revision,
                targets=new_targets(instances_of(self.state, group), group),
                description=params.get("description"),
                ignore_stop_failures=params.get("ignoreApplicationStopFailures", False),
                file_exists_behavior=params.get("fileExistsBehavior", "DISALLOW"),
                auto_rollback=auto_rollback,
                previous_revision=previous.revision if previous else None,
                target_groups=group.target_groups,
                messages=[ALARMS_IGNORED + ", ".join(group.alarms)] if group.alarms else [],
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
            deployment = self.state.deployment(params["deploymentId"])
            return {"deploymentInfo": describe_deployment(self.state, deployment)}

    def batch_get_deployments(self, **params: Any) -> dict[str, Any]:
        """Describe several deployments; ids that do not exist are left out."""
        ids = params["deploymentIds"]
        if not ids:
            raise AwsError("DeploymentIdRequiredException", "Give at least one deployment id.")
        if len(ids) > _BATCH_LIMIT:
            raise AwsError("BatchLimitExceededException", f"At most {_BATCH_LIMIT} ids may be given.")
        with self.state.lock:
            known = self.state.deployments
            found = [describe_deployment(self.state, known[each]) for each in ids if each in known]
            return {"deploymentsInfo": found}

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
        """Let the events under way finish and begin no more: the agent has no command that ends a script."""
        with self.state.lock:
            deployment = self.state.deployment(params["deploymentId"])
            if deployment.status in FINAL:
                raise AwsError(
                    "DeploymentAlreadyCompletedException",
                    f"The deployment {deployment.id} is already {deployment.status}",
                )
            deployment.stop_rolls_back = params.get("autoRollbackEnabled", deployment.stop_rolls_back)
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
            return {"deploymentTarget": describe_target(deployment, params["targetId"])}

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
            return {"deploymentTargets": [describe_target(deployment, each) for each in ids]}


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
