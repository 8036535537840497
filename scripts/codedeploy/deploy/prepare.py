"""What a release does before it starts: checks, static files and migrations, in one Python process."""

import os
from pathlib import Path

from deploy.host import Host
from deploy.process import run_shown
from deploy.service_environment import read_environment
from deploy.steps import step

PREPARE_S = 1200.0
LOCK_WAIT_S = 600


def prepare_release(host: Host, release: Path) -> None:
    """Run the release's ``manage.py prepare`` with the service's environment; raise Failure if it fails."""
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(host.state),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        # The units set the same two for the service.
        "STATIC_ROOT": str(host.static),
        "STATIC_MANIFEST_DIR": str(release / ".static"),
        **read_environment(host.environment),
    }
    with step("prepare", "Checks, static files, migrations"):
        run_shown(
            [str(release / ".venv/bin/python"), "manage.py", "prepare", "--timeout", str(LOCK_WAIT_S)],
            folder=release,
            environ=environ,
            label="`manage.py prepare`",
            timeout_s=PREPARE_S,
        )
