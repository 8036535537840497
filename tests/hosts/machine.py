"""A real host, provisioned, and what the CodeDeploy agent does on it."""

import contextlib
import http.client
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.hooks import agent
from tests.hooks.trees import REPOSITORY
from tests.hosts.nspawn import Nspawn

PORT = 8000
KIT = "/root/lockkeeper"  # where user data would unpack what prepares the host
# What the user data of a launch template needs of this repository.
PARTS = ("scripts/provision-host", "scripts/host_tools", "infra/systemd")


class RealMachine(agent.Machine):
    """A host with a real systemd. ``root`` is its root folder, seen from here."""

    def __init__(self, box: Nspawn) -> None:
        self.box = box
        self.root = box.root
        self.port = PORT
        self.unready = self.root / "srv/unready"
        self.previous = None

    def provision(self, *, environment: str, configuration: str, wheelhouse: Path, lock: str) -> str:
        """Do what the user data does, with the wheels of the host's tools; return what it printed."""
        kit = self.path(KIT)
        shutil.rmtree(kit, ignore_errors=True)
        for name in PARTS:
            target = kit / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy2)(REPOSITORY / name, target)
        shutil.copytree(wheelhouse, kit / "wheelhouse")
        # The wheels were made again from what is installed here, so they have hashes of their own.
        (kit / "scripts/host_tools/requirements.txt").write_text(lock)
        (kit / "environment").write_text(f"UNREADY_FILE=/srv/unready\n{environment}")
        return self.box.run(
            f"{KIT}/scripts/provision-host",
            *("--application", "lockkeeper", "--group", "staging", "--address", self.box.address),
            *("--environment", f"{KIT}/environment", "--wheelhouse", f"{KIT}/wheelhouse"),
            *("--configuration", configuration),
        ).stdout

    def path(self, inside: str) -> Path:
        """A path of the host, seen from here."""
        return self.root / inside.lstrip("/")

    @property
    def up(self) -> Any:
        return self

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.box.enter("systemctl", *arguments, check=False)

    def get(self, path: str) -> str:
        """What the front door answers to a GET from outside, which must be 200."""
        connection = http.client.HTTPConnection(self.box.address, self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode()
        assert response.status == 200, f"{response.status}: {body[:500]}"
        return body

    def deploy(self, bundle: Any) -> "RealDeployment":
        deployment = RealDeployment(self, bundle)
        deployment.run_all()
        return deployment


class RealDeployment(agent.Deployment):
    """A deployment laid out by the agent's rules; its hooks run as the agent's children on the host."""

    machine: RealMachine

    def environ(self, event: str) -> dict[str, str]:
        """The agent's variables alone; PATH is what systemd gives to a service."""
        return self.variables(event)

    def command(self, event: str, environ: dict[str, str]) -> tuple[list[str | Path], dict[str, str] | None]:
        """A hook is started as root in a control group of its own, by its absolute path; its folder is /."""
        program = Path("/", self.archive.relative_to(self.machine.root), self.location(event))
        return self.machine.box.unit_command(program, environ=self.environ(event) | environ), None
