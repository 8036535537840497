"""A sandbox host: a folder that is its root file system, and a supervisor process while it is up."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .names import Layout
from .process import end_processes
from .supervisor import HOST_VARIABLE

_REPOSITORY = Path(__file__).resolve().parents[3]
_DIRECTORIES = (
    "etc/systemd/system",
    "opt/codedeploy-agent/deployment-root",
    "root",
    "run",
    "srv",
    "tmp",
    "var/lib",
    "var/log/journal",
)


class HostError(Exception):
    """A host cannot be made or started; the message says why."""


def create_host(root: Path) -> Layout:
    """Make a host's directories and launchers; making them again is harmless.

    Raises HostError, UnsafeRoot.
    """
    layout = Layout(root)
    try:
        for directory in _DIRECTORIES:
            (root / directory).mkdir(parents=True, exist_ok=True)
        layout.bin.mkdir(exist_ok=True)
        for program in ("systemctl", "journalctl"):
            _write_launcher(layout, program)
    except OSError as error:
        raise HostError(f"cannot make the host {root}: {error.strerror}: {error.filename}") from None
    return layout


def _write_launcher(layout: Layout, program: str) -> None:
    command = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).with_name("client.py"))])
    about = shlex.join([str(layout.root), str(layout.control_socket), program])
    text = f'#!/bin/sh\nexec {command} {about} "$@"\n'
    temporary = layout.bin / f".{program}.{os.getpid()}"
    temporary.write_text(text)
    temporary.chmod(0o755)
    temporary.replace(layout.bin / program)


class Host:
    """A running host."""

    def __init__(self, name: str, layout: Layout, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.layout = layout
        self._process = process

    @property
    def running(self) -> bool:
        """False once the supervisor has ended, for whatever reason."""
        return self._process.poll() is None

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run this host's systemctl, as a hook would."""
        return subprocess.run(
            [self.layout.bin / "systemctl", *arguments], cwd="/", capture_output=True, text=True, check=False
        )

    def shut_down(self, timeout: float = 120.0) -> None:
        """Stop all units in order, as a real host does when told to; power off after timeout seconds."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.power_off()
        self._close()

    def power_off(self) -> None:
        """End every process at once, as a host does that loses its power."""
        if self.running:
            self._process.kill()
            self._process.wait()
        end_processes(HOST_VARIABLE, str(self.layout.root), grace=0.0)
        self._close()

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def start_host(
    name: str, root: Path, environment: Mapping[str, str] | None = None, timeout: float = 20.0
) -> Host:
    """Boot the host whose file system is at root: its enabled units start in the background.

    environment reaches every unit; it stands for what a real host has from its instance profile. The host is
    shut down when this process ends, however it ends. Raises HostError, UnsafeRoot.
    """
    layout = create_host(root)
    (root / "var/log").mkdir(parents=True, exist_ok=True)
    with (root / "var/log/supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "apps.sandbox.hosts.supervisor", "--root", str(root)],
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    if process.stdin is None or process.stdout is None:
        raise HostError("no pipe to the supervisor")
    process.stdin.write(json.dumps(dict(environment or {})).encode() + b"\n")
    process.stdin.flush()
    readable, _, _ = select.select([process.stdout], [], [], timeout)
    if not readable or process.stdout.readline() != b"ready\n":
        process.kill()
        process.wait()
        lines = (root / "var/log/supervisor.log").read_text(errors="replace").splitlines()[-5:]
        raise HostError(
            f"host {name} did not come up: " + (" | ".join(lines) or f"no answer in {timeout:.0f} s")
        )
    return Host(name, layout, process)
