"""What is configured: listeners and target groups, as plain values, read from moto."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """How a target group finds out whether a target is healthy."""

    protocol: str = "TCP"  # or HTTP
    port: int | None = None  # None: the one that the target serves on
    path: str = "/"
    codes: tuple[tuple[int, int], ...] = ((200, 399),)  # ranges of HTTP statuses that are healthy
    interval: float = 30.0  # seconds, as is the next
    timeout: float = 10.0
    healthy: int = 5  # checks in a row that turn an unhealthy target
    unhealthy: int = 2  # checks in a row that turn a healthy one

    def accepts(self, status: int) -> bool:
        return any(first <= status <= last for first, last in self.codes)


@dataclass(frozen=True)
class Address:
    """A registered target: its id, and where on this machine it is; no host when it is not there."""

    id: str
    port: int
    host: str = "127.0.0.1"
    usable: bool = True  # False: an instance that is stopped


@dataclass(frozen=True)
class Group:
    """A target group."""

    arn: str
    name: str
    check: Check
    targets: tuple[Address, ...]
    delay: float = 300.0  # seconds that the connections of a deregistered target may go on
    cut_after_delay: bool = False
    cut_unhealthy: bool = True


@dataclass(frozen=True)
class Listener:
    """A port of 127.0.0.1 and where its connections go."""

    arn: str
    port: int
    group: str  # ARN
    idle: float = 350.0  # seconds without a byte after which a connection is dropped


@dataclass(frozen=True)
class Configuration:
    """Everything of one account and region."""

    listeners: tuple[Listener, ...] = ()
    groups: tuple[Group, ...] = ()


class MotoConfiguration:
    """Reads moto's state, which is in this process."""

    def __init__(self, account_id: str, region: str) -> None:
        # Not before it is needed: it takes a second.
        from moto.ec2.models import ec2_backends
        from moto.elbv2.models import elbv2_backends

        self.elb: Any = elbv2_backends[account_id][region]
        self._ec2: Any = ec2_backends[account_id][region]

    def __call__(self) -> Configuration:
        balancers = list(self.elb.load_balancers.values())
        listeners = [each for balancer in balancers for each in list(balancer.listeners.values())]
        return Configuration(
            tuple(_listener(each) for each in listeners),
            tuple(self._group(each) for each in list(self.elb.target_groups.values())),
        )

    def _group(self, group: Any) -> Group:
        attributes = group.attributes
        return Group(
            arn=group.arn,
            name=group.name,
            check=_check(group),
            targets=tuple(self._address(each) for each in list(group.targets.values())),
            delay=float(attributes["deregistration_delay.timeout_seconds"]),
            cut_after_delay=attributes.get("deregistration_delay.connection_termination.enabled") == "true",
            cut_unhealthy=(
                attributes.get("target_health_state.unhealthy.connection_termination.enabled") != "false"
            ),
        )

    def _address(self, target: dict[str, Any]) -> Address:
        name, port = str(target["Id"]), int(target["Port"])
        if not name.startswith("i-"):
            return Address(name, port, name if _is_here(name) else "")
        instance = self._ec2.get_instance_by_id(name)
        # Every instance of the sandbox is a folder of this machine.
        return Address(name, port, usable=instance is not None and instance.state == "running")


def target_group_arns(action: Any) -> list[str]:
    """The target groups that a listener's action forwards to."""
    data = action.data
    if "TargetGroupArn" in data:
        return [str(data["TargetGroupArn"])]
    return [str(each["TargetGroupArn"]) for each in data.get("ForwardConfig", {}).get("TargetGroups", [])]


def _listener(listener: Any) -> Listener:
    groups = [arn for action in listener.default_actions for arn in target_group_arns(action)]
    idle = float(listener.attributes.get("tcp.idle_timeout.seconds", 350))
    return Listener(listener.arn, int(listener.port), groups[0] if groups else "", idle)


def _check(group: Any) -> Check:
    port = str(group.health_check_port or "traffic-port")
    codes = (getattr(group, "matcher", None) or {}).get("HttpCode") or "200-399"
    ranges = re.findall(r"(\d+)(?:-(\d+))?", codes)
    return Check(
        protocol=str(group.health_check_protocol),
        port=int(port) if port.isdigit() else None,
        path=str(group.health_check_path or "/"),
        codes=tuple((int(first), int(last or first)) for first, last in ranges),
        interval=float(group.health_check_interval_seconds),
        timeout=float(group.health_check_timeout_seconds),
        healthy=int(group.healthy_threshold_count),
        unhealthy=int(group.unhealthy_threshold_count),
    )


def _is_here(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
