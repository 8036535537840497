"""Which releases have proved themselves on this host, with what, and when they were last of use.

A marker for each, state/used/DIGEST: what it says is a hash of the release's variables, and its time is when
it was last of use. It goes with the release.
"""

import hashlib
import json
from pathlib import Path

from deploy import files
from deploy.errors import Failure
from deploy.host import Host


def folder(host: Host) -> Path:
    """Where the markers are."""
    return host.state / "used"


def has_proved(host: Host, digest: str) -> bool:
    """Whether a release has passed ValidateService on this host and is remembered for it."""
    return _marker(host, digest).is_file()


def has_proved_alike(host: Host, digest: str) -> bool:
    """Whether it has done so with exactly the variables that it would get now."""
    marker = _marker(host, digest)
    return marker.is_file() and marker.read_text().strip() == (_fingerprint(host, digest) or "unknown")


def remember(host: Host, digest: str) -> None:
    """A release has just proved itself."""
    folder(host).mkdir(mode=0o700, exist_ok=True)
    files.write_text(_marker(host, digest), f"{_fingerprint(host, digest)}\n")


def note_use(host: Host, digest: str) -> None:
    """A release was of use until now."""
    folder(host).mkdir(mode=0o700, exist_ok=True)
    _marker(host, digest).touch(0o600)


def last_used(host: Host, release: Path) -> float:
    """When a release last proved itself, or was replaced by one that did; else when it was made."""
    marker = _marker(host, release.name)
    return (marker if marker.is_file() else release).lstat().st_mtime


def _marker(host: Host, digest: str) -> Path:
    return folder(host) / digest


def _fingerprint(host: Host, digest: str) -> str:
    """What tells a release's variables from others, without them; empty where they cannot be read."""
    # ApplicationStart can do without, and should start fast.
    from deploy.configuration import service_variables

    try:
        variables = service_variables(host, digest)
    except Failure:
        return ""
    return hashlib.sha256(json.dumps(variables, sort_keys=True).encode()).hexdigest()
