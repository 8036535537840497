"""A release's configuration: fetched from AWS when the release is deployed, and its own from then on.

It lies in configuration/DIGEST, for root alone, where the units read it after the host's environment file.
Going back to a release finds what it ran with, whatever has been changed in AWS since.
"""

import json
import os
import subprocess
from pathlib import Path

from deploy import files
from deploy.errors import Failure
from deploy.host import Host
from deploy.output import detail
from deploy.process import die_with_parent
from deploy.redaction import redact
from deploy.service_environment import read_environment, render_environment
from deploy.steps import step

FETCH_S = 90.0
TOOL = "opt/lockkeeper/configuration.py"


def folder(host: Host) -> Path:
    """Where the configuration of every release on the host is."""
    return host.home / "configuration"


def service_variables(host: Host, digest: str) -> dict[str, str]:
    """What the units give a release: the host's environment, and over it the release's configuration."""
    own = folder(host) / digest
    return read_environment(host.environment) | (read_environment(own) if own.is_file() else {})


def ensure_configuration(host: Host, digest: str, *, proved: bool) -> None:
    """Fetch the configuration of a release, unless it has proved itself here with the one it has.

    Until then it is fetched at every deployment, so that a mistake in it can be put right in AWS. Raises
    Failure when it cannot be had; nothing has changed then.
    """
    source = host.settings.get("CONFIGURATION", "")
    if not source:
        return
    with step("configuration", f"Configuration from {source}"):
        own = folder(host) / digest
        if proved and own.is_file():
            detail("already here, as this release last ran with it")
            return
        variables = _fetch(host, source)
        redact.learn(variables, all_secret=True)
        try:
            text = render_environment(variables)
        except Failure as failure:
            raise Failure(f"{source} cannot be used: {failure}") from None
        _write(own, text)
        detail(f"{len(variables)} variables: {', '.join(sorted(variables))[:200]}")


def _fetch(host: Host, source: str) -> dict[str, str]:
    """Ask the host's tool, whose values come through a pipe and go nowhere else."""
    python = host.settings.get("TOOLS_PYTHON", "")
    if not python:
        raise Failure(
            f"This host has no TOOLS_PYTHON to fetch {source} with; run scripts/provision-host again, which "
            "makes one."
        )
    here = read_environment(host.environment)
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        # The embedded AWS is named there; a real host has its instance profile.
        **{name: value for name, value in here.items() if name.startswith("AWS_")},
    }
    try:
        done = subprocess.run(
            [python, "-I", "-B", str(host.root / TOOL), source],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=FETCH_S,
            env=environ,
            preexec_fn=die_with_parent,
            check=False,
        )
    except FileNotFoundError:
        raise Failure(f"TOOLS_PYTHON={python} is not there; run scripts/provision-host again.") from None
    except subprocess.TimeoutExpired:
        raise Failure(
            f"Fetching {source} took longer than {FETCH_S:.0f} s; "
            "see whether this host reaches AWS and deploy again."
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:600]
        raise Failure(f"{source} could not be fetched: {said or 'the tool said nothing'}. Then deploy again.")
    try:
        return {str(name): str(value) for name, value in json.loads(done.stdout).items()}
    except (ValueError, AttributeError):
        # Without what it said, which may be half of a secret.
        raise Failure(
            f"What {host.root / TOOL} printed is no JSON object; run scripts/provision-host again."
        ) from None


def _write(path: Path, text: str) -> None:
    """Make the file, readable by root alone from its first byte, complete or not at all."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_name(f"{files.TEMPORARY}{path.name}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    files.sync_folder(path.parent)
