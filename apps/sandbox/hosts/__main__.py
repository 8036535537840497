"""`python -m apps.sandbox.hosts`: make a host of the sandbox, or run one by itself until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .host import HostError, create_host, start_host
from .names import UnsafeRoot

_PROVISION = Path(__file__).resolve().parents[3] / "scripts/provision-host"


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m apps.sandbox.hosts", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser(
        "create", help="make a host's folder and provision it with scripts/provision-host"
    )
    create.add_argument("root", type=Path, help="the folder that becomes the host's /")
    create.add_argument("arguments", nargs="*", help="for scripts/provision-host, after --")
    run = commands.add_parser("run", help="boot a host and keep it up until Ctrl-C")
    run.add_argument("root", type=Path, help="the host's folder")
    options = parser.parse_args(argv)
    root = options.root.absolute()
    try:
        return _create(root, options.arguments) if options.command == "create" else _run(root)
    except (HostError, UnsafeRoot) as error:
        print(f"hosts: {error}", file=sys.stderr)
        return 1


def _create(root: Path, arguments: list[str]) -> int:
    layout = create_host(root)
    code = (
        subprocess.run([_PROVISION, "--root", root, *arguments], check=False).returncode if arguments else 0
    )
    if code == 0:
        print(f"{root} is ready; its systemctl is {layout.bin / 'systemctl'}")
    return code


def _run(root: Path) -> int:
    if not root.is_dir():
        raise HostError(f"there is no host at {root}; make one with `python -m apps.sandbox.hosts create`")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    host = start_host(root.parent.name, root)
    try:
        print(f"{root} is up; its systemctl is {host.layout.bin / 'systemctl'}; Ctrl-C ends it", flush=True)
        while host.running:
            time.sleep(0.2)
        raise HostError(f"the supervisor of {root} ended; {root}/var/log/supervisor.log may say why")
    except KeyboardInterrupt:
        return 0
    finally:
        host.shut_down()


if __name__ == "__main__":
    sys.exit(main())
