"""What CodeDeploy knows: applications, groups, instances, deployments. In memory, as long as the process."""

from __future__ import annotations

import secrets
import string
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from apps.sandbox.hosts.host import Host
from apps.sandbox.protocol import AwsError
from apps.sandbox.runtime import Runtime

# Without a load balancer; the traffic events exist only with one.
EVENTS = (
    "ApplicationStop",
    "DownloadBundle",
    "BeforeInstall",
    "Install",
    "AfterInstall",
    "ApplicationStart",
    "ValidateService",
)
CONFIGS = ("CodeDeployDefault.OneAtATime", "CodeDeployDefault.HalfAtATime", "CodeDeployDefault.AllAtOnce")
ACTIVE = frozenset({"Created", "Queued", "InProgress", "Baking", "Ready"})
FINAL = frozenset({"Succeeded", "Failed", "Stopped"})


def now() -> datetime:
    """The time in UTC, to the millisecond: that much goes over the wire and can come back."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


@dataclass
class Instance:
    """An on-premises instance: a host of the sandbox."""

    name: str
    arn: str
    iam: dict[str, str]
    host: Host
    registered: datetime = field(default_factory=now)
    tags: dict[str, str] = field(default_factory=dict)
    # The agent works on one deployment at a time, whatever group it belongs to.
    busy: threading.Lock = field(default_factory=threading.Lock)


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
    status: str = "Pending"
    updated: datetime = field(default_factory=now)
    events: list[LifecycleEvent] = field(default_factory=lambda: [LifecycleEvent(name) for name in EVENTS])

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
    """A deployment group."""

    name: str
    config: str
    service_role: str
    filters: list[dict[str, str]]
    tag_set: list[list[dict[str, str]]]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    target_revision: dict[str, Any] | None = None
    last_successful: Deployment | None = None
    last_attempted: Deployment | None = None

    def matches(self, tags: Mapping[str, str]) -> bool:
        """Whether an instance with these tags belongs to the group."""
        if self.tag_set:
            return all(any(tag_matches(one, tags) for one in some) for some in self.tag_set)
        return any(tag_matches(one, tags) for one in self.filters)


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
    group_name: str
    config: str
    revision: dict[str, Any]
    description: str | None
    ignore_stop_failures: bool
    file_exists_behavior: str
    previous_revision: dict[str, Any] | None
    targets: dict[str, Target]
    status: str = "Created"
    error: dict[str, str] | None = None
    created: datetime = field(default_factory=now)
    started: datetime | None = None
    completed: datetime | None = None
    stop: threading.Event = field(default_factory=threading.Event)

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
        self.instances: dict[str, Instance] = {}
        self.deployments: dict[str, Deployment] = {}

    def application(self, name: str) -> Application:
        """Raises AwsError if there is none of that name."""
        if name not in self.applications:
            raise AwsError("ApplicationDoesNotExistException", f"No application found for name: {name}")
        return self.applications[name]

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


def matching_instances(instances: Iterable[Instance], group: Group) -> Iterator[Instance]:
    """The instances of a group, by name."""
    for instance in sorted(instances, key=lambda each: each.name):
        if group.matches(instance.tags):
            yield instance


def tag_matches(one: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    """Whether tags satisfy one tag filter."""
    kind = one.get("Type", "KEY_AND_VALUE")
    if kind == "KEY_ONLY":
        return one.get("Key") in tags
    if kind == "VALUE_ONLY":
        return one.get("Value") in tags.values()
    return one.get("Key", "") in tags and tags[one.get("Key", "")] == one.get("Value", "")


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
