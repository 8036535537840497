"""What the services of one sandbox share: where its files are, where it answers, who the account is."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ACCOUNT_ID = "123456789012"
REGION = "eu-central-1"
# Any credentials are accepted; these are what builds and the sandbox itself send.
ACCESS_KEY_ID = "sandbox"
SECRET_ACCESS_KEY = "sandbox"  # noqa: S105 (not a secret: any value is accepted)


@dataclass(frozen=True)
class BuildLimits:
    """How builds share the machine."""

    at_once: int = 0  # further ones are QUEUED; 0 is no limit
    minute: float = 60.0  # the seconds of a minute of timeoutInMinutes and queuedTimeoutInMinutes


@dataclass(frozen=True)
class Runtime:
    """One sandbox: `state_dir` holds builds/, hosts/ and logs/; `endpoint` is its http:// address."""

    state_dir: Path
    endpoint: str
    account_id: str = ACCOUNT_ID
    region: str = REGION
    builds: BuildLimits = BuildLimits()

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource of this account, such as arn("codebuild", "project/web")."""
        return f"arn:aws:{service}:{self.region}:{self.account_id}:{resource}"

    def aws_environment(self) -> dict[str, str]:
        """Return the environment variables with which AWS's SDKs and tools find this sandbox."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        }

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session(
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            region_name=self.region,
        )

    def client(self, service: str) -> Any:
        """Return a boto3 client for this sandbox, whatever the process's own AWS settings are."""
        # No proxy: the address is this machine. Path style: there is no DNS for bucket names.
        config = Config(proxies={}, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
        return self._session.client(service, endpoint_url=self.endpoint, config=config)  # type: ignore[call-overload]  # the stubs know literal names only
