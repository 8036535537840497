"""Deployment configurations: how many hosts may be out of service at once, and how many must succeed.

https://docs.aws.amazon.com/codedeploy/latest/userguide/deployment-configurations.html
https://docs.aws.amazon.com/codedeploy/latest/userguide/instances-health.html
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Config:
    """A deployment configuration; kind and value are its minimumHealthyHosts."""

    name: str
    kind: str
    value: int
    created: datetime | None = None  # None: predefined
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def minimum(self, hosts: int) -> int:
        """How many of so many hosts must stay healthy, and must have succeeded in the end."""
        if self.created is None and hosts == 1:
            return 0  # with a predefined one a lone host can always be deployed to
        if self.name == ONE_AT_A_TIME:
            return hosts - 1  # so if the last one fails, the deployment still succeeds
        if self.kind == "HOST_COUNT":
            return self.value
        return -(-hosts * self.value // 100)  # a fraction is rounded up

    def can_succeed(self, hosts: int) -> bool:
        """False if no host may ever be taken out of service."""
        return hosts > self.minimum(hosts)

    def is_met(self, succeeded: int, hosts: int) -> bool:
        """Whether a deployment to so many hosts of which these succeeded has itself; one is always needed."""
        return succeeded >= max(1, self.minimum(hosts))


ONE_AT_A_TIME = "CodeDeployDefault.OneAtATime"
# AWS shows OneAtATime as a MOST_CONCURRENCY of 1, a type that its own API model does not have.
PREDEFINED = {
    each.name: each
    for each in (
        Config(ONE_AT_A_TIME, "FLEET_PERCENT", 99),
        Config("CodeDeployDefault.HalfAtATime", "FLEET_PERCENT", 50),
        Config("CodeDeployDefault.AllAtOnce", "FLEET_PERCENT", 0),
    )
}
