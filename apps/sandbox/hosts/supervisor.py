"""The process that stands for systemd on a sandbox host.

It is a stand-in, not a container: units share the machine's network, users and file system, and what they
name below a host's paths is moved below the root. It ends, stopping its units, on TERM and when its standard
input closes, so it cannot outlive whoever started it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

from .cmdline import Answer
from .manager import Manager
from .names import Layout, UnsafeRoot
from .process import adopt_orphans, end_processes
from .systemctl import run

HOST_VARIABLE = "LOCKKEEPER_SANDBOX_HOST"  # in the environment of every process of a host


def main(argv: list[str] | None = None) -> int:
    """Run a host until it is shut down; the units' environment comes as JSON in the first line of stdin."""
    parser = argparse.ArgumentParser(prog="python -m apps.sandbox.hosts.supervisor")
    parser.add_argument("--root", type=Path, required=True)
    options = parser.parse_args(argv)
    try:
        layout = Layout(options.root)
    except UnsafeRoot as error:
        print(error, file=sys.stderr)
        return 1
    environment = json.loads(os.read(0, 1 << 20) or b"{}")
    asyncio.run(_serve(layout, environment))
    return 0


async def _serve(layout: Layout, environment: dict[str, str]) -> None:
    loop = asyncio.get_running_loop()
    down = asyncio.Event()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # whatever whoever started this had blocked
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, down.set)
    os.set_blocking(0, False)
    loop.add_reader(0, _read_parent, down)
    adopt_orphans()
    shutil.rmtree(layout.root / "run", ignore_errors=True)  # a tmpfs on a real host: gone with every boot
    layout.journal.mkdir(parents=True, exist_ok=True)
    manager = Manager(layout, environment | {HOST_VARIABLE: str(layout.root)})
    manager.children.watch(loop)
    server = await asyncio.start_unix_server(
        lambda r, w: _answer(manager, r, w), sock=_control_socket(layout)
    )
    # Sockets first, as in a real boot: whoever connects from now on waits instead of being refused.
    await manager.boot(["sockets.target"])
    boot = asyncio.create_task(manager.boot())
    print("ready", flush=True)
    await down.wait()
    server.close()
    await manager.shutdown()
    boot.cancel()
    end_processes(HOST_VARIABLE, str(layout.root), grace=2.0)
    layout.control_socket.unlink(missing_ok=True)


def _read_parent(down: asyncio.Event) -> None:
    """Nothing is ever written after the first line: readable means that the other end is gone."""
    if not os.read(0, 1024):
        asyncio.get_running_loop().remove_reader(0)
        down.set()


def _control_socket(layout: Layout) -> socket.socket:
    path = layout.control_socket
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    # A root can be deeper than the 107 bytes of a socket's address.
    directory = os.open(path.parent, os.O_PATH)
    try:
        sock.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
    return sock


async def _answer(manager: Manager, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        request = json.loads(await reader.readline() or b'{"argv": []}')
        answer: Answer = await run(manager, request["argv"])
        writer.write(json.dumps(vars(answer)).encode() + b"\n")
        await writer.drain()
    except ConnectionError:
        print("a client went away before it was answered", file=sys.stderr)
    finally:
        writer.close()


if __name__ == "__main__":
    sys.exit(main())
