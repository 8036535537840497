"""Operations on deployment configurations."""

from __future__ import annotations

from typing import Any

from apps.sandbox.protocol import AwsError

from .healthy import PREDEFINED, Config
from .state import State, now, refuse_unsupported

_CREATE = ("deploymentConfigName", "minimumHealthyHosts", "computePlatform")
_RESERVED = "CodeDeployDefault."


class ConfigOperations:
    """CreateDeploymentConfig and its like."""

    state: State

    def create_deployment_config(self, **params: Any) -> dict[str, Any]:
        """Make a configuration that says how many hosts must stay healthy."""
        refuse_unsupported("CreateDeploymentConfig", params, _CREATE)
        if (platform := params.get("computePlatform", "Server")) != "Server":
            raise AwsError(
                "UnsupportedOperationException",
                f"The sandbox's CodeDeploy has no {platform} platform, only Server.",
            )
        name = params["deploymentConfigName"]
        if name.startswith(_RESERVED):
            raise AwsError(
                "InvalidDeploymentConfigNameException", f"Names that begin with {_RESERVED} are AWS's own."
            )
        healthy = params.get("minimumHealthyHosts") or {}
        kind, value = healthy.get("type"), healthy.get("value", -1)
        if kind is None or value < 0 or (kind == "FLEET_PERCENT" and value > 100):
            raise AwsError(
                "InvalidMinimumHealthyHostValueException",
                "minimumHealthyHosts needs a type, HOST_COUNT or FLEET_PERCENT, and a value of 0 or more, "
                "as a percentage at most 100.",
            )
        with self.state.lock:
            if name in self.state.configs:
                raise AwsError(
                    "DeploymentConfigAlreadyExistsException", f"Deployment configuration exists: {name}"
                )
            config = self.state.configs[name] = Config(name, kind, value, now())
        return {"deploymentConfigId": config.id}

    def get_deployment_config(self, **params: Any) -> dict[str, Any]:
        """Describe a configuration."""
        config = self.state.config(params["deploymentConfigName"])
        return {
            "deploymentConfigInfo": {
                "deploymentConfigId": config.id,
                "deploymentConfigName": config.name,
                "computePlatform": "Server",
                "createTime": config.created,
                "minimumHealthyHosts": {"type": config.kind, "value": config.value},
            }
        }

    def list_deployment_configs(self, **params: Any) -> dict[str, Any]:
        """Name every configuration, the predefined ones first."""
        return {"deploymentConfigsList": list(self.state.configs)}

    def delete_deployment_config(self, **params: Any) -> dict[str, Any]:
        """Forget a configuration that no group uses; forgetting one that does not exist is no error."""
        name = params["deploymentConfigName"]
        if name in PREDEFINED:
            raise AwsError("InvalidOperationException", f"{name} is predefined and cannot be deleted.")
        with self.state.lock:
            users = [
                group.name
                for application in self.state.applications.values()
                for group in application.groups.values()
                if group.config == name
            ]
            if users:
                raise AwsError(
                    "DeploymentConfigInUseException", f"{name} is used by {', '.join(sorted(users))}."
                )
            self.state.configs.pop(name, None)
        return {}
