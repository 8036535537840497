"""The hosts of a demo: one for each environment, provisioned as a real one would be."""

import json
import os
import pwd
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.sandbox.runtime import ACCOUNT_ID, REGION

from .cloud import SERVICE
from .control import plain_environment
from .services import fetch, free_port, run


@dataclass(frozen=True)
class DemoHost:
    """A host, known to CodeDeploy by its name and its tag `environment`."""

    name: str
    environment: str
    folder: Path
    url: str  # of its front door

    def version(self) -> dict[str, Any]:
        """Return what the release that serves there says it is."""
        return dict(json.loads(fetch(f"{self.url}/version")))


def provision(
    *, root: Path, state: Path, logs: Path, environment: str, database_url: str, aws: Mapping[str, str]
) -> DemoHost:
    """Prepare a host's folder with scripts/provision-host."""
    name = f"{environment}-1"
    port = free_port()
    folder = state / "hosts" / name / "root"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "DATABASE_URL": database_url,
        "SECRET_KEY": secrets.token_urlsafe(48),
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "CSRF_TRUSTED_ORIGINS": f"http://127.0.0.1:{port}",
        "SECURE_COOKIES": "false",
        **aws,
    }
    file = state / f"{name}.environment"
    file.touch(0o600)
    file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    command: list[str | Path] = [root / "scripts" / "provision-host", "--root", folder]
    command += ["--application", SERVICE, "--group", environment, "--environment", file, "--port", str(port)]
    command += ["--account", ACCOUNT_ID, "--region", REGION]
    # The interpreter below the virtual environment: the one that the build's wheels are for.
    command += ["--python", os.path.realpath(sys.executable)]
    command += ["--tools-python", sys.executable, "--host", name]
    user = pwd.getpwuid(os.geteuid()).pw_name
    if re.fullmatch(r"[a-z_][a-z0-9_-]*", user):
        command += ["--user", user]
    run(f"provisioning {name}", command, cwd=root, environment=plain_environment(), log=logs / f"{name}.log")
    file.unlink()
    return DemoHost(name, environment, folder, f"http://127.0.0.1:{port}")
