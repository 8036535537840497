"""Where boto3 clients are made: short explicit timeouts, few retries, endpoints from the environment.

AWS_ENDPOINT_URL, AWS_REGION and credentials are read by boto3 itself; nothing else in the code knows
whether it talks to AWS or to the embedded one.
"""

import os
from functools import cache
from typing import Any

CONNECT_TIMEOUT = 2.0  # seconds
READ_TIMEOUT = 10.0  # seconds; requests that a user waits for pass less
# Two attempts of a call that hangs end before a reconciler's lease (30 s) does.
ATTEMPTS = 2


def client(
    service: str,
    *,
    connect_timeout: float = CONNECT_TIMEOUT,
    read_timeout: float = READ_TIMEOUT,
    attempts: int = ATTEMPTS,
) -> Any:
    """A client of one AWS service; clients are thread-safe and slow to make, so they are kept.

    Timeouts are in seconds and for each attempt; ``attempts`` counts the first one. The kept clients
    are told apart by what boto3 reads from the environment, so a changed endpoint is seen.
    """
    place = tuple(
        os.environ.get(name)
        for name in (
            "AWS_ENDPOINT_URL",
            f"AWS_ENDPOINT_URL_{service.upper()}",
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
            "AWS_PROFILE",
            "AWS_ACCESS_KEY_ID",
        )
    )
    return _client(service, connect_timeout, read_timeout, attempts, place)


def console_region(service: str) -> str | None:
    """The region whose console shows a service; None where it is not known, or the endpoint is another's."""
    if os.environ.get("AWS_ENDPOINT_URL") or os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}"):
        return None
    return _region()


def _region() -> str | None:
    # AWS_REGION is what Lambda, ECS and CodeBuild set; boto3 itself reads only AWS_DEFAULT_REGION.
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")


@cache
def _client(
    service: str, connect_timeout: float, read_timeout: float, attempts: int, place: tuple[str | None, ...]
) -> Any:
    # Only here: they take a sixth of the time in which a process starts, and most ask AWS nothing.
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        s3={
            # Buckets as host names need DNS for each bucket, which a local endpoint has not.
            "addressing_style": "path" if os.environ.get("AWS_ENDPOINT_URL") else "auto",
            # What is put has its SHA-256 in a header that is signed; a signed payload would be hashed again.
            "payload_signing_enabled": False,
        },
    )
    region = _region()
    # A session of its own: boto3's default one is not safe to use from several threads.
    return boto3.session.Session(region_name=region).client(service, config=config)  # type: ignore[call-overload]  # the service is a variable here
