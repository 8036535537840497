"""Operations on deployment groups."""

from __future__ import annotations

from typing import Any

from apps.sandbox.protocol import AwsError

from .state import Application, Deployment, Group, State, refuse_unsupported

_SETTINGS = (
    "alarmConfiguration",
    "autoRollbackConfiguration",
    "deploymentConfigName",
    "deploymentStyle",
    "ec2TagFilters",
    "ec2TagSet",
    "loadBalancerInfo",
    "onPremisesInstanceTagFilters",
    "onPremisesTagSet",
    "serviceRoleArn",
)
# Of each pair only one may be given; giving one takes the other away.
_PAIRS = (
    ("ec2TagFilters", "ec2TagSet", "InvalidEC2TagCombinationException"),
    ("onPremisesInstanceTagFilters", "onPremisesTagSet", "InvalidOnPremisesTagCombinationException"),
)
_STYLE = {"deploymentType": "IN_PLACE", "deploymentOption": "WITHOUT_TRAFFIC_CONTROL"}
_BATCH_LIMIT = 100


class GroupOperations:
    """CreateDeploymentGroup and its like."""

    state: State

    def create_deployment_group(self, **params: Any) -> dict[str, Any]:
        """Make a group for in-place deployments to instances with certain tags."""
        supported = ("applicationName", "deploymentGroupName", *_SETTINGS)
        refuse_unsupported("CreateDeploymentGroup", params, supported)
        name = params["deploymentGroupName"]
        with self.state.lock:
            application = self.state.application(params["applicationName"])
            if name in application.groups:
                raise AwsError(
                    "DeploymentGroupAlreadyExistsException",
                    f"Deployment group already exists: {name}",
                )
            settings = self._settings({}, params)
            group = application.groups[name] = Group(name, settings)
        return {"deploymentGroupId": group.id}

    def update_deployment_group(self, **params: Any) -> dict[str, Any]:
        """Change a group's name or settings; what is not named stays."""
        names = ("applicationName", "currentDeploymentGroupName", "newDeploymentGroupName")
        refuse_unsupported("UpdateDeploymentGroup", params, (*names, *_SETTINGS))
        with self.state.lock:
            application = self.state.application(params["applicationName"])
            group = application.group(params["currentDeploymentGroupName"])
            settings = self._settings(group.settings, params)
            self._rename(application, group, params.get("newDeploymentGroupName") or group.name)
            group.settings = settings
        return {"hooksNotCleanedUp": []}

    def _settings(self, old: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        """A group's settings after a call; raises AwsError where they cannot be."""
        new = {name: params[name] for name in _SETTINGS if name in params}
        kept = dict(old)
        for one, other, code in _PAIRS:
            if new.get(one) and new.get(other):
                raise AwsError(code, f"Give either {one} or {other}, not both.")
            if one in new or other in new:
                kept.pop(one, None)
                kept.pop(other, None)
        settings = kept | new
        if "deploymentStyle" in new:
            settings["deploymentStyle"] = _STYLE | new["deploymentStyle"]
        if "deploymentConfigName" in new:
            self.state.config(new["deploymentConfigName"])
        _check_traffic(settings)
        check_auto_rollback(settings.get("autoRollbackConfiguration", {}))
        return settings

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


def check_auto_rollback(configuration: dict[str, Any]) -> None:
    """Raise AwsError for a configuration that is switched on for no event."""
    if configuration.get("enabled") and not configuration.get("events"):
        raise AwsError(
            "InvalidAutoRollbackConfigException",
            "An autoRollbackConfiguration that is enabled names at least one of the events "
            "DEPLOYMENT_FAILURE, DEPLOYMENT_STOP_ON_ALARM and DEPLOYMENT_STOP_ON_REQUEST.",
        )


def _check_traffic(settings: dict[str, Any]) -> None:
    style = settings.get("deploymentStyle", _STYLE)
    if style["deploymentType"] != "IN_PLACE":
        raise AwsError("UnsupportedOperationException", "The sandbox's CodeDeploy deploys IN_PLACE only.")
    info = settings.get("loadBalancerInfo", {})
    if other := [name for name in ("elbInfoList", "targetGroupPairInfoList") if info.get(name)]:
        raise AwsError(
            "UnsupportedOperationException",
            f"The sandbox's CodeDeploy does not support {', '.join(other)} in loadBalancerInfo; it knows "
            "targetGroupInfoList.",
        )
    groups = info.get("targetGroupInfoList", [])
    if not all(each.get("name") for each in groups):
        raise AwsError("InvalidLoadBalancerInfoException", "A target group in loadBalancerInfo has no name.")
    if style["deploymentOption"] == "WITH_TRAFFIC_CONTROL" and not groups:
        raise AwsError(
            "InvalidLoadBalancerInfoException",
            "WITH_TRAFFIC_CONTROL needs loadBalancerInfo with a targetGroupInfoList.",
        )


def _info(application: Application, group: Group) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "deploymentConfigName": group.config,
        "onPremisesInstanceTagFilters": [],
        "ec2TagFilters": [],
        "deploymentStyle": _STYLE,
    }
    return {
        **defaults,
        **group.settings,
        "applicationName": application.name,
        "deploymentGroupId": group.id,
        "deploymentGroupName": group.name,
        "autoScalingGroups": [],
        "triggerConfigurations": [],
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
