"""The hosts of a demo, provisioned as real ones would be."""

import json
import os
import pwd
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.sandbox.runtime import ACCOUNT_ID, REGION

from .cloud import SERVICE
from .control import plain_environment
from .services import fetch, run


@dataclass(frozen=True)
class DemoHost:
    """A host, known to CodeDeploy by its name: an instance id, or what it was registered with."""

    name: str
    environment: str
    url: str  # of its own front door


def version(url: str) -> dict[str, Any]:
    """Return what /version says at an address."""
    return dict(json.loads(fetch(f"{url}/version")))


def provision(
    *,
    root: Path,
    state: Path,
    logs: Path,
    name: str,
    environment: str,
    port: int,
    settings: Mapping[str, str],
    configuration: str = "",
) -> DemoHost:
    """Prepare a host's folder with scripts/provision-host.

    `settings` go into the file of the host, `configuration` names where releases have theirs from.
    """
    folder = host_folder(state / "hosts", name)
    file = state / f"{name}.environment"
    file.touch(0o600)
    file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    command: list[str | Path] = [root / "scripts" / "provision-host", "--root", folder, "--host", name]
    command += ["--application", SERVICE, "--group", environment, "--environment", file, "--port", str(port)]
    command += ["--account", ACCOUNT_ID, "--region", REGION, "--tools-python", sys.executable]
    # The interpreter below the virtual environment: the one that the build's wheels are for.
    command += ["--python", os.path.realpath(sys.executable)]
    if configuration:
        command += ["--configuration", configuration]
    user = pwd.getpwuid(os.geteuid()).pw_name
    if re.fullmatch(r"[a-z_][a-z0-9_-]*", user):
        command += ["--user", user]
    run(f"provisioning {name}", command, cwd=root, environment=plain_environment(), log=logs / f"{name}.log")
    file.unlink()
    return DemoHost(name, environment, f"http://127.0.0.1:{port}")


def host_folder(hosts: Path, name: str) -> Path:
    """Make a host's root folder.

    An instance has another id in every run; it gets the folder of one from the last run, where there is one,
    for the environments that are kept there.
    """
    folder = hosts / name
    if not folder.exists() and name.startswith("i-"):
        for old in sorted(hosts.glob("i-*")):
            if not (old / "root" / "etc").exists():  # not provisioned in this run
                old.rename(folder)
                break
    root = folder / "root"
    root.mkdir(parents=True, exist_ok=True)
    return root
