"""What the hosts' tools share: whose rights they use, in which region, and what to do when AWS refuses.

scripts/provision-host puts these files into /opt/lockkeeper, with boto3 in an environment of their own: hooks
are standard library only, and a release's environment is the release's.
"""

import os
import re
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    TokenRetrievalError,
)

# Installed as ROOT/opt/lockkeeper/aws.py; ROOT is / but for hosts that are folders.
ROOT = Path(__file__).absolute().parents[2]
KEPT = re.compile(r"AWS_\w+|(https?|no)_proxy|PATH|LANG", re.IGNORECASE)
# Nothing here may keep a deployment, or a unit, waiting for long.
CONNECT_S = 5
READ_S = 15


def keep_aws_variables() -> None:
    """Forget every variable that does not say how to reach AWS: the service's environment holds secrets."""
    for name in [name for name in os.environ if not KEPT.fullmatch(name)]:
        del os.environ[name]


def region() -> str | None:
    """The region this host was provisioned for; None leaves it to boto3."""
    try:
        lines = (ROOT / "etc/lockkeeper/host").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition("=")[2].strip() for line in lines if line.startswith("AWS_REGION=")]
    return next(filter(None, [*named, os.environ.get("AWS_REGION")]), None)


def client(service: str, *, attempts: int) -> Any:
    """A boto3 client that asks ``attempts`` times at most."""
    limits = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"total_max_attempts": attempts, "mode": "standard"},
    )
    return boto3.client(service, region_name=region(), config=limits)


def explain(error: Exception) -> str:
    """In one sentence without a full stop: what AWS, or the way to it, said, and what to do."""
    if isinstance(error, ClientError):
        answer = error.response.get("Error", {})
        said = f"{answer.get('Code', 'an error')}: {answer.get('Message') or 'no reason given'}".rstrip(".")
        if re.match(r"AccessDenied|NotAuthorized|Unauthorized|KMS", str(answer.get("Code"))):
            return f"AWS refused ({said}); give the host's role the rights in docs/aws.md"
        return f"AWS answered {said}"
    if isinstance(error, NoCredentialsError | PartialCredentialsError | TokenRetrievalError):
        return f"there are no AWS credentials ({error}); give the host the instance profile in docs/aws.md"
    if isinstance(error, NoRegionError):
        return "no AWS region is known; run scripts/provision-host again with --region"
    return f"AWS cannot be reached ({type(error).__name__}: {error}); look at the host's way to it"
