"""Where things are on a host, and what provisioning said about it."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import LOCK_NOT_GRANTED, Failure
from deploy.output import detail

REQUIRED = ("APPLICATION_NAME", "DEPLOYMENT_GROUP_NAME", "PYTHON", "PUBLIC_URL")
LOCK_WAIT_S = 30.0


@dataclass(frozen=True)
class Host:
    """A host below ``root``: ``/`` in earnest, a folder in the embedded AWS."""

    root: Path
    settings: Mapping[str, str]

    @classmethod
    def read(cls, root: Path) -> "Host":
        """Read ROOT/etc/lockkeeper/host; raise Failure where it is missing or says too little."""
        path = root / "etc/lockkeeper/host"
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            raise Failure(f"{path} is missing: prepare this host with scripts/provision-host.") from None
        settings = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, equals, value = line.partition("=")
            if not equals:
                raise Failure(f"{path} line {number} is not KEY=value; run scripts/provision-host again.")
            settings[name.strip()] = value.strip()
        if missing := [name for name in REQUIRED if not settings.get(name)]:
            raise Failure(f"{path} does not say {', '.join(missing)}; run scripts/provision-host again.")
        return cls(root, settings)

    @property
    def home(self) -> Path:
        """Everything a deployment writes, but for the private sockets."""
        return self.root / "srv/lockkeeper"

    @property
    def incoming(self) -> Path:
        return self.home / "incoming"

    @property
    def releases(self) -> Path:
        return self.home / "releases"

    @property
    def venvs(self) -> Path:
        return self.home / "venvs"

    @property
    def static(self) -> Path:
        return self.home / "static"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def environment(self) -> Path:
        """The service's environment, which systemd reads too."""
        return self.root / "etc/lockkeeper/environment"

    @property
    def name(self) -> str:
        """What CodeDeploy calls this host: the instance's id, or its name on premises."""
        return self.settings.get("HOST_NAME") or os.uname().nodename

    @property
    def prove_s(self) -> float:
        """How long a release may take to prove itself, in seconds."""
        value = self.settings.get("PROVE_SECONDS", "60")
        if not value.isdecimal() or not 1 <= int(value) <= 60:
            raise Failure(
                f"PROVE_SECONDS={value} in {self.root / 'etc/lockkeeper/host'} is not between 1 and 60."
            )
        return float(value)

    def release(self, digest: str) -> Path:
        return self.releases / digest

    def private_socket(self, digest: str) -> Path:
        """Where one release answers and no other can."""
        return self.root / "run/lockkeeper" / f"{digest}.sock"

    def check_laid_out(self) -> None:
        """Raise Failure unless provisioning made the folders."""
        for folder in (self.incoming, self.releases, self.venvs, self.static, self.state):
            if not folder.is_dir():
                raise Failure(f"{folder} is missing: prepare this host with scripts/provision-host.")

    def check_deployment(self, environ: Mapping[str, str]) -> None:
        """Raise Failure when the deployment is for another application or group than this host."""
        for name in ("APPLICATION_NAME", "DEPLOYMENT_GROUP_NAME"):
            wanted = environ.get(name, "")
            if wanted != self.settings[name]:
                raise Failure(
                    f"This host has {name}={self.settings[name]} ({self.root / 'etc/lockkeeper/host'}) "
                    f"and the deployment is for {name}={wanted or '(not set)'}; "
                    "deploy to the right group or provision the host again."
                )

    @contextmanager
    def locked(self, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
        """Hold the host's lock; the kernel frees it when this process dies, however it dies.

        Raises Failure when another deployment still holds it after ``wait_s`` seconds.
        """
        path = self.state / "lock"
        with path.open("a+") as lock:
            deadline = time.monotonic() + wait_s
            waiting = False
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    lock.seek(0)
                    holder = lock.read().strip() or "unknown"
                    if time.monotonic() > deadline:
                        raise Failure(
                            f"Another deployment is at work on this host (process {holder} holds {path}); "
                            "wait for it to end and deploy again.",
                            LOCK_NOT_GRANTED,
                        ) from None
                    if not waiting:
                        detail(f"waiting for the lock, which process {holder} holds")
                        waiting = True
                    time.sleep(0.2)
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield
