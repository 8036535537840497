"""What CodeDeploy knows: applications, groups, instances, deployments. In memory, as long as the process."""

from __future__ import annotations

import secrets
import string
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from apps.sandbox.hosts.host import Host, start_host
from apps.sandbox.protocol import AwsError
from apps.sandbox.runtime import Runtime

from .healthy import PREDEFINED, Config
from .tags import all_match, any_matches

# Without a load balancer.
EVENTS = (
    "ApplicationStop",
    "DownloadBundle",
    "BeforeInstall",
    "Install",
    "AfterInstall",
    "ApplicationStart",
    "ValidateService",
)
EVENTS_WITH_TRAFFIC = (
    "BeforeBlockTraffic",
    "BlockTraffic",
    "AfterBlockTraffic",
    *EVENTS,
    "BeforeAllowTraffic",
    "AllowTraffic",
    "AfterAllowTraffic",
)
ACTIVE = frozenset({"Created", "Queued", "InProgress", "Baking", "Ready"})
FINAL = frozenset({"Succeeded", "Failed", "Stopped"})


def now() -> datetime:
    """The time in UTC, to the millisecond: that much goes over the wire and can come back."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


@dataclass
class Instance:
    """A host of the sandbox: an on-premises instance, or one of EC2, whose name is its id."""

    name: str
    arn: str
    iam: dict[str, str] = field(default_factory=dict)
    host: Host | None = None  # of an EC2 instance, only once it was deployed to
    registered: datetime = field(default_factory=now)
    tags: dict[str, str] = field(default_factory=dict)
    # How the last deployment to it ended, and of which revision, by the group's id.
    last: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    # The agent works on one deployment at a time, whatever group it belongs to.
    busy: threading.Lock = field(default_factory=threading.Lock)

    def boot(self, runtime: Runtime) -> Host:
        """Return the host, started from hosts/NAME/root unless it was before. Raises HostError, UnsafeRoot.

        A host that went down is not started again: its agent stays silent, as that of a real one would.
        """
        if self.host is None:
            root = runtime.state_dir / "hosts" / self.name / "root"
            self.host = start_host(self.name, root, runtime.aws_environment())
        return self.host


@dataclass
class LifecycleEvent:
    """One lifecycle event on one target."""

    name: str
    status: str = "Pending"
    start: datetime | None = None
    end: datetime | None = None
    diagnostics: dict[str, str] | None = None


@dataclass
class Target:
    """One instance in one deployment."""

    instance: Instance
    events: list[LifecycleEvent]
    status: str = "Pending"
    updated: datetime = field(default_factory=now)

    def set_status(self, status: str) -> None:
        """Change the status, and when it changed."""
        self.status, self.updated = status, now()

    def skip_rest(self) -> None:
        """Mark what has not begun."""
        for event in self.events:
            if event.status == "Pending":
                event.status = "Skipped"
        self.updated = now()


@dataclass
class Group:
    """A deployment group; its settings are named and nested as in CreateDeploymentGroup."""

    name: str
    settings: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    target_revision: dict[str, Any] | None = None
    last_successful: Deployment | None = None
    last_attempted: Deployment | None = None

    @property
    def config(self) -> str:
        """The name of the group's deployment configuration."""
        return str(self.settings.get("deploymentConfigName", next(iter(PREDEFINED))))

    @property
    def target_groups(self) -> list[str]:
        """The target groups that an instance is taken out of and put back into, if traffic is controlled."""
        style = self.settings.get("deploymentStyle", {})
        if style.get("deploymentOption") != "WITH_TRAFFIC_CONTROL":
            return []
        info = self.settings.get("loadBalancerInfo", {})
        return [each["name"] for each in info.get("targetGroupInfoList", [])]

    @property
    def alarms(self) -> list[str]:
        """The alarms that the group names; nothing here evaluates them."""
        alarms = self.settings.get("alarmConfiguration", {})
        return [each.get("name", "") for each in alarms.get("alarms", [])] if alarms.get("enabled") else []

    def matches(self, tags: Mapping[str, str], kind: str) -> bool:
        """Whether an instance with these tags belongs to the group; kind is `onPremises` or `ec2`."""
        if sets := self.settings.get(f"{kind}TagSet", {}).get(f"{kind}TagSetList"):
            return all_match(sets, tags)
        filters = "onPremisesInstanceTagFilters" if kind == "onPremises" else "ec2TagFilters"
        return any_matches(self.settings.get(filters, []), tags)


@dataclass
class Application:
    """An application and its groups and revisions."""

    name: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: datetime = field(default_factory=now)
    groups: dict[str, Group] = field(default_factory=dict)
    revisions: dict[str, dict[str, Any]] = field(default_factory=dict)

    def group(self, name: str) -> Group:
        """Raises AwsError if there is none of that name."""
        if name not in self.groups:
            raise AwsError(
                "DeploymentGroupDoesNotExistException",
                f"No Deployment Group found for name: {name}",
            )
        return self.groups[name]


@dataclass
class Deployment:
    """One deployment."""

    id: str
    application: str
    group: Group
    config: Config
    revision: dict[str, Any]
    targets: dict[str, Target]
    description: str | None = None
    ignore_stop_failures: bool = False
    file_exists_behavior: str = "DISALLOW"
    auto_rollback: dict[str, Any] = field(default_factory=dict)
    previous_revision: dict[str, Any] | None = None
    rolls_back: str | None = None  # the id of the deployment that this one undoes
    rolled_back_by: str | None = None
    rollback_refused: str | None = None  # why it was not rolled back although it should have been
    target_groups: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    status: str = "Created"
    error: dict[str, str] | None = None
    created: datetime = field(default_factory=now)
    started: datetime | None = None
    completed: datetime | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    stop_rolls_back: bool | None = None  # what StopDeployment asked for

    def __post_init__(self) -> None:
        self.group_name = self.group.name  # which may change

    @property
    def location(self) -> dict[str, str]:
        """Where in S3 the revision is."""
        location: dict[str, str] = self.revision["s3Location"]
        return location

    def overview(self) -> dict[str, int]:
        """How many targets are in which state."""
        counts = dict.fromkeys(("Pending", "InProgress", "Succeeded", "Failed", "Skipped", "Ready"), 0)
        for target in self.targets.values():
            counts[target.status] += 1
        return counts


class State:
    """Everything of one sandbox; hold `lock` while looking at more than one thing or changing any."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.lock = threading.RLock()
        self.applications: dict[str, Application] = {}
        self.instances: dict[str, Instance] = {}  # on premises, by name
        self.ec2_instances: dict[str, Instance] = {}  # that were deployed to, by id
        self.configs: dict[str, Config] = dict(PREDEFINED)
        self.deployments: dict[str, Deployment] = {}

    def application(self, name: str) -> Application:
        """Raises AwsError if there is none of that name."""
        if name not in self.applications:
            raise AwsError("ApplicationDoesNotExistException", f"No application found for name: {name}")
        return self.applications[name]

    def config(self, name: str) -> Config:
        """Raises AwsError if there is none of that name."""
        if name not in self.configs:
            raise AwsError(
                "DeploymentConfigDoesNotExistException",
                f"No deployment configuration found for name: {name} (there are {', '.join(self.configs)})",
            )
        return self.configs[name]

    def deployment(self, deployment_id: str) -> Deployment:
        """Raises AwsError if there is none with that id."""
        if deployment_id not in self.deployments:
            raise AwsError(
                "DeploymentDoesNotExistException", f"The deployment {deployment_id} could not be found"
            )
        return self.deployments[deployment_id]

    def active(self, group: Group) -> Deployment | None:
        """The deployment that keeps a group busy."""
        return next(
            (one for one in self.deployments.values() if one.group is group and one.status in ACTIVE), None
        )

    def new_deployment_id(self) -> str:
        """An id that looks like CodeDeploy's."""
        while True:
            found = "d-" + "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(9))
            if found not in self.deployments:
                return found


def refuse_unsupported(operation: str, params: Mapping[str, Any], supported: Iterable[str]) -> None:
    """Raise AwsError for a parameter that asks for something the sandbox does not do."""
    extra = sorted(name for name in params.keys() - set(supported) if not _is_off(params[name]))
    if extra:
        raise AwsError(
            "UnsupportedOperationException",
            f"The sandbox's CodeDeploy does not support {', '.join(extra)} in {operation}.",
        )


def _is_off(value: Any) -> bool:
    """An empty list or mapping, False, or a configuration with enabled=False asks for nothing."""
    return not value or (isinstance(value, dict) and value.get("enabled") is False)
