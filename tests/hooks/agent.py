"""A host, and what the CodeDeploy agent does on it, step by step."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from apps.releases.bundle import Bundle
from apps.sandbox.codedeploy.installer import Installer
from apps.sandbox.hosts.host import Host, start_host
from apps.specs.appspec import parse_appspec
from tests.hooks.trees import REPOSITORY

SUMMARY = re.compile(r" !     \w+ failed(?: in step [a-z-]+)?: ")
EVENTS = [
    "ApplicationStop",
    "BeforeInstall",
    "Install",
    "AfterInstall",
    "ApplicationStart",
    "ValidateService",
]
GROUP_ID = "5d1b2f5e-0000-4000-8000-000000000001"


@dataclass
class Result:
    """What a hook left behind."""

    code: int
    output: str

    @property
    def reason(self) -> str:
        """The summary at the end, which is what people read, in one line."""
        lines = self.output.rstrip().splitlines()
        first = max((n for n, line in enumerate(lines) if SUMMARY.match(line)), default=len(lines) - 1)
        return " ".join(line.removeprefix(" !").strip() for line in lines[first:])


class HookFailed(AssertionError):
    """A hook that should have succeeded did not."""


class Machine:
    """A provisioned host that is up."""

    def __init__(self, root: Path, *, environment: str = "") -> None:
        self.root = root
        self.port = free_port()
        self.unready = root.parent / "unready"
        self.previous: Deployment | None = None
        root.parent.mkdir(parents=True, exist_ok=True)
        settings = root.parent / "environment"
        alone = "AWS_ENDPOINT_URL" not in environment
        # Whatever credentials lie about on this machine, no test reaches AWS.
        environment += "AWS_ENDPOINT_URL=http://127.0.0.1:9\n" if alone else ""
        settings.write_text(f"UNREADY_FILE={self.unready}\n{environment}")
        self.provisioned = subprocess.run(
            [
                REPOSITORY / "scripts/provision-host",
                *("--root", root, "--application", "lockkeeper", "--group", "staging"),
                *("--port", str(self.port), "--python", sys.executable, "--environment", settings),
                *("--tools-python", sys.executable, "--host", "staging-1"),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        if alone:
            self.configure("TOOLS_PYTHON", "")
        self.host: Host | None = None
        self.boot()

    def configure(self, name: str, value: str) -> None:
        """Change what provisioning said about this host."""
        path = self.root / "etc/lockkeeper/host"
        path.write_text(re.sub(rf"^{name}=.*$", f"{name}={value}", path.read_text(), flags=re.MULTILINE))

    def lose_patience(self, seconds: int = 3) -> None:
        """From now on a release has this long to prove itself."""
        self.configure("PROVE_SECONDS", str(seconds))

    def boot(self) -> None:
        self.host = start_host("staging-1", self.root)

    @property
    def up(self) -> Host:
        assert self.host is not None
        return self.host

    @property
    def home(self) -> Path:
        return self.root / "srv/lockkeeper"

    def get(self, path: str) -> str:
        """What the front door answers to a GET, which must be 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        assert response.status == 200, f"{response.status}: {body[:500]}"
        return body

    def serving(self) -> str:
        """The digest that the front door answers with."""
        return str(json.loads(self.get("/version"))["digest"])

    def pointer(self, name: str) -> str | None:
        link = self.home / name
        return link.readlink().name if link.is_symlink() else None

    def running(self) -> set[str]:
        """The units of releases that systemd has loaded, without their states."""
        listing = self.up.systemctl(
            "list-units", "--all", "--plain", "--no-legend", "lockkeeper@*", "lockkeeper-*@*"
        )
        return {line.split()[0] for line in listing.stdout.splitlines()}

    def leftovers(self) -> list[str]:
        """Temporary files and folders that no deployment should leave."""
        found = [path for name in (".tmp-*", ".collect-*", ".new-*") for path in self.home.rglob(name)]
        return sorted(str(path.relative_to(self.home)) for path in found)

    def deploy(self, bundle: Bundle) -> "Deployment":
        """Run a whole deployment, which must succeed."""
        deployment = Deployment(self, bundle)
        deployment.run_all()
        return deployment


class Deployment:
    """One deployment of one bundle, as the agent lays it out (FACTS of agent 1.8.1)."""

    def __init__(self, machine: Machine, bundle: Bundle | None, *, key: str | None = None) -> None:
        self.machine = machine
        self.id = f"d-{uuid.uuid4().hex[:9].upper()}"
        self.key = key or (f"releases/lockkeeper/{bundle.digest}.tar" if bundle else "")
        self.folder = machine.root / "opt/codedeploy-agent/deployment-root" / GROUP_ID / self.id
        self.archive = self.folder / "deployment-archive"
        self.archive.mkdir(parents=True)
        if bundle:
            shutil.copyfile(bundle.path, self.folder / "bundle.tar")
            subprocess.run(["tar", "-xf", self.folder / "bundle.tar", "-C", self.archive], check=True)
            self.appspec = yaml.safe_load((self.archive / "appspec.yml").read_text())

    def environ(self, event: str) -> dict[str, str]:
        return {"PATH": f"{self.machine.up.layout.bin}:{os.environ['PATH']}", **self.variables(event)}

    def variables(self, event: str) -> dict[str, str]:
        """What the agent gives a hook."""
        return {
            "LIFECYCLE_EVENT": event,
            "DEPLOYMENT_ID": self.id,
            "APPLICATION_NAME": "lockkeeper",
            "DEPLOYMENT_GROUP_NAME": "staging",
            "DEPLOYMENT_GROUP_ID": GROUP_ID,
            "BUNDLE_BUCKET": "lockkeeper-bundles",
            "BUNDLE_KEY": self.key,
            "BUNDLE_VERSION": "1",
            "BUNDLE_ETAG": "0",
        }

    @contextlib.contextmanager
    def hook(self, event: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
        """A hook that has been started in a process group of its own."""
        command, settings = self.command(event, environ)
        with subprocess.Popen(
            command,
            cwd="/",
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def command(self, event: str, environ: dict[str, str]) -> tuple[list[str | Path], dict[str, str] | None]:
        """What starts a hook with ``environ`` besides the agent's, and the environment to start it in."""
        return [self.archive / self.location(event)], self.environ(event) | environ

    def location(self, event: str) -> str:
        """Where in the bundle an event's only hook is."""
        (entry,) = self.appspec["hooks"][event]
        return str(entry["location"])

    def run(self, event: str, **environ: str) -> Result:
        """Run one event to its end."""
        if event == "Install":
            self.install()
            return Result(0, "")
        if event == "ApplicationStop" and self.machine.previous is None:
            return Result(0, "skipped: nothing was deployed before")
        source = self.machine.previous if event == "ApplicationStop" else self
        assert source is not None
        with source.hook(event, **environ) as process:
            output, _ = process.communicate(timeout=120)
        return Result(process.returncode, output)

    def kill(self, event: str, when: Callable[[], object], **environ: str) -> bool:
        """Start a hook and kill all of it as soon as ``when`` holds; False when it ended before."""
        with self.hook(event, **environ) as process:
            while process.poll() is None:
                if when():
                    # Only the hook: what it started must not go on without it either.
                    process.kill()
                    return True
                time.sleep(0.002)
        return False

    def install(self) -> None:
        """Remove what the deployment before installed, then copy what the appspec's `files` name."""
        instructions = self.machine.root / "opt/codedeploy-agent/deployment-root/deployment-instructions"
        appspec = parse_appspec((self.archive / "appspec.yml").read_text())
        installer = Installer(self.machine.root, instructions, GROUP_ID, alive=lambda: True)
        installer.install(self.archive, appspec, "DISALLOW")
        self.machine.previous = self

    def run_until(self, last: str) -> Result:
        """Run all events up to and with ``last``; those before it must succeed."""
        for event in EVENTS[: EVENTS.index(last) + 1]:
            result = self.run(event)
            if result.code and event != last:
                raise HookFailed(f"{event}: {result.output}")
        return result

    def run_all(self) -> None:
        result = self.run_until("ValidateService")
        if result.code:
            raise HookFailed(f"ValidateService: {result.output}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something that will be; AssertionError when it is not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
