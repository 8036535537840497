"""Taking instances out of target groups and putting them back, as CodeDeploy does around an installation.

There is one balancer in a process, as there is one state of moto; it starts with the first question.
"""

import threading

from apps.sandbox.runtime import Runtime

from .balancer import Balancer
from .config import MotoConfiguration
from .errors import BalancerError, TargetUnhealthy, UnknownTargetGroup

__all__ = ["BalancerError", "TargetUnhealthy", "UnknownTargetGroup", "deregister", "register"]


class _Process:
    """This process's balancer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runtime: Runtime | None = None
        self._balancer: tuple[Balancer, MotoConfiguration] | None = None

    def open(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def get(self) -> tuple[Balancer, MotoConfiguration]:
        with self._lock:
            if self._runtime is None:
                raise BalancerError("No sandbox runs in this process, so it has no load balancers.")
            if self._balancer is None:
                configuration = MotoConfiguration(self._runtime.account_id, self._runtime.region)
                self._balancer = Balancer(configuration), configuration
                self._balancer[0].start()
            return self._balancer

    def close(self) -> None:
        with self._lock:
            balancer, self._balancer, self._runtime = self._balancer, None, None
        if balancer:
            balancer[0].close()


process = _Process()


def deregister(target_group: str, instance_id: str) -> None:
    """Take an instance out of the target group of that name; return when it is drained.

    That is when no connection is open any more, at the latest after the group's deregistration delay. An
    instance that is not registered is out already. Raises BalancerError.
    """
    balancer, moto = process.get()
    group = balancer.group_named(target_group)
    if any(each.id == instance_id for each in group.targets):
        moto.elb.deregister_targets(group.arn, [{"Id": instance_id}])
    balancer.wait_until_drained(group.arn, instance_id)


def register(target_group: str, instance_id: str, *, timeout: float | None = None) -> None:
    """Put an instance into the target group of that name; return when it is healthy.

    It serves on the port it was registered with before, else on the group's. Raises TargetUnhealthy when it
    is not healthy after `timeout` seconds (by default: as many as its health checks may need), and
    BalancerError.
    """
    balancer, moto = process.get()
    group = balancer.group_named(target_group)
    if all(each.id != instance_id for each in group.targets):
        known = moto.elb.target_groups[group.arn].deregistered_targets.get(instance_id, {})
        target = {"Id": instance_id} | ({"Port": known["Port"]} if "Port" in known else {})
        try:
            moto.elb.register_targets(group.arn, [target])
        except Exception as error:  # one of moto's many, each with AWS's own sentence
            raise BalancerError(f"{instance_id} cannot be registered with {target_group}: {error}") from error
    balancer.wait_until_healthy(group.arn, instance_id, timeout)
