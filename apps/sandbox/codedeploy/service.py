"""The handler of CodeDeploy's API; protocol.JsonService checks what goes in and out."""

from __future__ import annotations

from apps.sandbox.runtime import Runtime

from .applications import ApplicationOperations
from .configs import ConfigOperations
from .deployments import DeploymentOperations
from .engine import Engine
from .groups import GroupOperations
from .instances import InstanceOperations
from .state import State


class CodeDeploy(
    ApplicationOperations, ConfigOperations, GroupOperations, InstanceOperations, DeploymentOperations
):
    """CodeDeploy of one sandbox, with the hosts it deploys to."""

    def __init__(self, runtime: Runtime) -> None:
        self.state = State(runtime)
        self.engine = Engine(self.state)

    def close(self) -> None:
        """End running deployments, then shut all hosts down."""
        self.engine.close()
        self.shut_down_hosts()
