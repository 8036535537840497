"""Operations on deployment groups and deployment configurations."""

from __future__ import annotations

from typing import Any

from apps.sandbox.protocol import AwsError

from .state import CONFIGS, Application, Deployment, Group, State, refuse_unsupported

_SETTINGS = (
    "deploymentConfigName",
    "onPremisesInstanceTagFilters",
    "onPremisesTagSet",
    "serviceRoleArn",
    "deploymentStyle",
)
_IN_PLACE = {"deploymentType": "IN_PLACE", "deploymentOption": "WITHOUT_TRAFFIC_CONTROL"}
_BATCH_LIMIT = 100


class GroupOperations:
    """CreateDeploymentGroup and its like."""

    state: State

    def create_deployment_group(self, **params: Any) -> dict[str, Any]:
        """Make a group for in-place deployments to on-premises instances with certain tags."""
        supported = ("applicationName", "deploymentGroupName", *_SETTINGS)
        refuse_unsupported("CreateDeploymentGroup", params, supported)
        _check(params)
        name = params["deploymentGroupName"]
        with self.state.lock:
            application = self.state.application(params["applicationName"])
            if name in application.groups:
                raise AwsError(
                    "DeploymentGroupAlreadyExistsException",
                    f"Deployment group already exists: {name}",
                )
            group = application.groups[name] = Group(
                name=name,
                config=params.get("deploymentConfigName", CONFIGS[0]),
                service_role=params["serviceRoleArn"],
                filters=params.get("onPremisesInstanceTagFilters", []),
                tag_set=_tag_set(params),
            )
        return {"deploymentGroupId": group.id}

    def update_deployment_group(self, **params: Any) -> dict[str, Any]:
        """Change a group's name or settings; what is not named stays."""
        names = ("applicationName", "currentDeploymentGroupName", "newDeploymentGroupName")
        refuse_unsupported("UpdateDeploymentGroup", params, (*names, *_SETTINGS))
        _check(params)
        with self.state.lock:
            application = self.state.application(params["applicationName"])
            group = application.group(params["currentDeploymentGroupName"])
            self._rename(application, group, params.get("newDeploymentGroupName") or group.name)
            group.config = params.get("deploymentConfigName", group.config)
            group.service_role = params.get("serviceRoleArn", group.service_role)
            if "onPremisesInstanceTagFilters" in params or "onPremisesTagSet" in params:
                group.filters = params.get("onPremisesInstanceTagFilters", [])
                group.tag_set = _tag_set(params)
        return {"hooksNotCleanedUp": []}

    @staticmethod
    def _rename(application: Application, group: Group, name: str) -> None:
        if name == group.name:
            return
        if name in application.groups:
            raise AwsError(
                "DeploymentGroupAlreadyExistsException", f"Deployment group already exists: {name}"
            )
        del application.groups[group.name]
        group.name = name
        application.groups[name] = group

    def get_deployment_group(self, **params: Any) -> dict[str, Any]:
        """Describe a group."""
        application = self.state.application(params["applicationName"])
        group = application.group(params["deploymentGroupName"])
        return {"deploymentGroupInfo": _info(application, group)}

    def batch_get_deployment_groups(self, **params: Any) -> dict[str, Any]:
        """Describe several groups; those that do not exist are named in the errorMessage."""
        names = params["deploymentGroupNames"]
        if len(names) > _BATCH_LIMIT:
            raise AwsError("BatchLimitExceededException", f"At most {_BATCH_LIMIT} names may be given.")
        application = self.state.application(params["applicationName"])
        missing = [name for name in names if name not in application.groups]
        found = [_info(application, application.groups[name]) for name in names if name in application.groups]
        message = f"No Deployment Group found for name: {', '.join(missing)}" if missing else None
        return {"deploymentGroupsInfo": found, "errorMessage": message}

    def list_deployment_groups(self, **params: Any) -> dict[str, Any]:
        """Name every group of an application."""
        application = self.state.application(params["applicationName"])
        return {"applicationName": application.name, "deploymentGroups": sorted(application.groups)}

    def delete_deployment_group(self, **params: Any) -> dict[str, Any]:
        """Forget a group; forgetting one that does not exist is no error."""
        with self.state.lock:
            self.state.application(params["applicationName"]).groups.pop(params["deploymentGroupName"], None)
        return {"hooksNotCleanedUp": []}

    def list_deployment_configs(self, **params: Any) -> dict[str, Any]:
        """Name the configurations the sandbox has, all predefined."""
        return {"deploymentConfigsList": list(CONFIGS)}

    def get_deployment_config(self, **params: Any) -> dict[str, Any]:
        """Describe a predefined configuration."""
        name = params["deploymentConfigName"]
        check_config(name)
        # As AWS shows its predefined ones.
        kind, value = {
            CONFIGS[0]: ("FLEET_PERCENT", 99),
            CONFIGS[1]: ("FLEET_PERCENT", 50),
            CONFIGS[2]: ("FLEET_PERCENT", 0),
        }[name]
        return {
            "deploymentConfigInfo": {
                "deploymentConfigName": name,
                "computePlatform": "Server",
                "minimumHealthyHosts": {"type": kind, "value": value},
            }
        }


def check_config(name: str) -> None:
    """Raise AwsError for a deployment configuration that the sandbox does not have."""
    if name not in CONFIGS:
        raise AwsError(
            "DeploymentConfigDoesNotExistException",
            f"No deployment configuration found for name: {name} (the sandbox has {', '.join(CONFIGS)})",
        )


def _check(params: dict[str, Any]) -> None:
    check_config(params.get("deploymentConfigName", CONFIGS[0]))
    style = params.get("deploymentStyle", {})
    if any(style.get(key, wanted) != wanted for key, wanted in _IN_PLACE.items()):
        raise AwsError(
            "UnsupportedOperationException",
            "The sandbox's CodeDeploy deploys IN_PLACE and WITHOUT_TRAFFIC_CONTROL only.",
        )
    if params.get("onPremisesInstanceTagFilters") and params.get("onPremisesTagSet"):
        raise AwsError(
            "InvalidOnPremisesTagCombinationException",
            "Give either onPremisesInstanceTagFilters or onPremisesTagSet, not both.",
        )


def _tag_set(params: dict[str, Any]) -> list[list[dict[str, str]]]:
    found: list[list[dict[str, str]]] = params.get("onPremisesTagSet", {}).get("onPremisesTagSetList", [])
    return found


def _info(application: Application, group: Group) -> dict[str, Any]:
    return {
        "applicationName": application.name,
        "deploymentGroupId": group.id,
        "deploymentGroupName": group.name,
        "deploymentConfigName": group.config,
        "serviceRoleArn": group.service_role,
        "onPremisesInstanceTagFilters": group.filters,
        "onPremisesTagSet": {"onPremisesTagSetList": group.tag_set} if group.tag_set else None,
        "ec2TagFilters": [],
        "autoScalingGroups": [],
        "triggerConfigurations": [],
        "deploymentStyle": _IN_PLACE,
        "computePlatform": "Server",
        "targetRevision": group.target_revision,
        "lastSuccessfulDeployment": _last(group.last_successful),
        "lastAttemptedDeployment": _last(group.last_attempted),
    }


def _last(deployment: Deployment | None) -> dict[str, Any] | None:
    if deployment is None:
        return None
    return {
        "deploymentId": deployment.id,
        "status": deployment.status,
        "createTime": deployment.created,
        "endTime": deployment.completed,
    }
