"""A CodeDeploy that lives in memory, in place of apps.aws.codedeploy's functions.

It can do what the real one does at bad moments: refuse, not answer, answer late, and not show yet what it
has made.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import Any

from django.utils import timezone

from apps.aws import codedeploy, s3
from apps.aws.codedeploy import DeploymentInfo, LifecycleEvent, S3Location, TargetInfo
from apps.aws.errors import AwsError

NO_ANSWER = AwsError("CodeDeploy: AWS did not answer (read timeout)", retryable=True, code="ReadTimeoutError")
BUSY = AwsError(
    "CodeDeploy: DeploymentLimitExceededException: the group is busy with d-FOREIGN",
    retryable=False,
    code="DeploymentLimitExceededException",
)
THROTTLED = AwsError("CodeDeploy: ThrottlingException: slow down", retryable=True, code="ThrottlingException")
NO_GROUP = AwsError(
    "CodeDeploy: DeploymentGroupDoesNotExistException: no such group",
    retryable=False,
    code="DeploymentGroupDoesNotExistException",
)


@dataclass
class FakeCodeDeploy:
    deployments: dict[str, DeploymentInfo] = field(default_factory=dict)
    targets: dict[str, list[TargetInfo]] = field(default_factory=dict)
    asked: int = 0
    # One per CreateDeployment: what to raise; None answers. ``lost`` raises after having made it.
    refusals: list[AwsError | None] = field(default_factory=list)
    lost: list[AwsError | None] = field(default_factory=list)
    hidden: bool = False  # ListDeployments does not show anything yet
    away: AwsError | None = None  # every call but CreateDeployment
    lock: Any = field(default_factory=Lock)

    def install(self, monkeypatch):
        for name in ("create_deployment", "get_deployments", "list_deployments", "get_targets"):
            monkeypatch.setattr(codedeploy, name, getattr(self, name))
        # No host has written a flight record; tests/deployments/test_flight.py reads them from a real S3.
        monkeypatch.setattr(s3, "list_page", lambda **_options: s3.Page([], more=False))
        # Heads of the ledger are none of its business; tests/catalog/test_heads.py writes them to a real S3.
        monkeypatch.setattr(s3, "put_if_absent", lambda **_options: None)
        return self

    def create_deployment(
        self, *, application: str, group: str, revision: S3Location, description: str, timeout: float = 10.0
    ) -> str:
        with self.lock:
            self.asked += 1
            if self.refusals and (error := self.refusals.pop(0)):
                raise error
            made = f"d-{len(self.deployments) + 1:09d}"
            self.deployments[made] = DeploymentInfo(
                id=made,
                application=application,
                group=group,
                status="Created",
                description=description,
                creator="user",
                created_at=timezone.now(),
                started_at=None,
                completed_at=None,
                error_code="",
                error_message="",
                revision=revision,
            )
            if self.lost and (error := self.lost.pop(0)):
                raise error
            return made

    def foreign(self, release: Any, environment: Any, *, status: str = "Created", **fields: Any) -> str:
        """A deployment that nobody asked Lockkeeper for; of something unknown where ``release`` is None."""
        made = f"d-F{len(self.deployments) + 1:08d}"
        revision = (
            S3Location(
                bucket=release.bucket,
                key=release.key,
                version=release.object_version,
                etag=release.etag,
            )
            if release
            else None
        )
        text = f"s3://{revision.bucket}/{revision.key}" if revision else "github.com/shop/shop at abc"
        defaults = {
            "description": "",
            "creator": "user",
            "created_at": timezone.now(),
            "revision": revision,
            "revision_text": text,
        }
        self.deployments[made] = DeploymentInfo(
            id=made,
            application=environment.application,
            group=environment.deployment_group,
            status="Created",
            started_at=None,
            completed_at=None,
            error_code="",
            error_message="",
            **{**defaults, **fields},
        )
        if status != "Created":
            self.set(made, status, host("staging-1", ("ValidateService", status), status=status))
        return made

    def get_deployments(self, ids: list[str]) -> list[DeploymentInfo]:
        if self.away:
            raise self.away
        return [self.deployments[each] for each in ids if each in self.deployments]

    def list_deployments(self, *, application: str, group: str, since: datetime | None = None) -> list[str]:
        if self.away:
            raise self.away
        return [
            info.id
            for info in self.deployments.values()
            if (info.application, info.group) == (application, group)
            and not self.hidden
            and (since is None or info.created_at >= since)
        ]

    def get_targets(self, deployment_id: str) -> list[TargetInfo]:
        if self.away:
            raise self.away
        return self.targets.get(deployment_id, [])

    def set(self, key: str, status: str, *targets: TargetInfo, **fields: Any) -> None:
        """Move a deployment, and its hosts, to where a test wants them."""
        done = timezone.now() if status in {"Succeeded", "Failed", "Stopped"} else None
        values = {"started_at": timezone.now(), "completed_at": done, **fields}
        self.deployments[key] = replace(self.deployments[key], status=status, **values)
        self.targets[key] = list(targets)

    def succeed(self, key: str) -> None:
        self.set(key, "Succeeded", host("staging-1", ("ValidateService", "Succeeded")))


def host(name: str, *events: tuple[str, str], status: str = "Succeeded", **fields: Any) -> TargetInfo:
    """A host with its events; ``fields`` are of the last event."""
    now = timezone.now()
    made = [LifecycleEvent(name=each, status=state, started_at=now, ended_at=now) for each, state in events]
    if made and fields:
        made[-1] = replace(made[-1], **fields)
    return TargetInfo(id=name, status=status, updated_at=now, events=made)
