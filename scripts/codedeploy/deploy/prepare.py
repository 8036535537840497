"""What a release does before it starts: checks, static files and migrations, in one Python process."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from deploy import files, flight
from deploy.configuration import service_variables
from deploy.host import Host
from deploy.process import run_shown
from deploy.steps import step

PREPARE_S = 1200.0
LOCK_WAIT_S = 600
LARGEST_REPORT = 1 << 20


def prepare_release(host: Host, folder: Path, digest: str, given: Mapping[str, str]) -> None:
    """Run a release's ``manage.py prepare`` with the service's environment; raise Failure if it fails.

    ``folder`` is where the release is, perhaps under a temporary name. ``given`` is what the agent gave the
    hook; the release records under which deployment it migrated.
    """
    report = host.state / f"{files.TEMPORARY}prepare.json"
    report.unlink(missing_ok=True)
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(host.state),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        # The units set the same two for the service.
        "STATIC_ROOT": str(host.static),
        "STATIC_MANIFEST_DIR": str(folder / ".static"),
        **service_variables(host, digest),
        "DEPLOYMENT_ID": given.get("DEPLOYMENT_ID", ""),
        "HOST_NAME": host.name,
    }
    try:
        with step("prepare", "Checks, static files, migrations"):
            run_shown(
                [
                    *(str(folder / ".venv/bin/python"), "manage.py", "prepare"),
                    *("--timeout", str(LOCK_WAIT_S), "--report", str(report)),
                ],
                folder=folder,
                environ=environ,
                label="`manage.py prepare`",
                timeout_s=PREPARE_S,
            )
    finally:
        flight.note(migrations=_read_report(report))
        report.unlink(missing_ok=True)


def _read_report(report: Path) -> object:
    """What ``manage.py prepare`` says of the migrations; None where it did not come to them."""
    try:
        with report.open("rb") as stream:
            said = json.loads(stream.read(LARGEST_REPORT))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None
