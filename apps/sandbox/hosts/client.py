"""`systemctl` and `journalctl` on a sandbox host: a client of its supervisor. Standard library only.

It is run by the launchers in the host's bin directory, with Python's -I and -S so that it starts fast and
nothing of the caller's environment matters. The real one answers in milliseconds and hooks ask it often, so
nothing is imported here that asking a supervisor can do without.
"""

from __future__ import annotations

import json
import os
import socket
import sys

TYPE_CHECKING = False  # typing itself takes a fifth of the time
if TYPE_CHECKING:
    from typing import Any


def main(argv: list[str]) -> int:
    """argv: the host's root, its supervisor's socket, `systemctl` or `journalctl`, what the caller gave."""
    root, control_socket, program, *arguments = argv
    if program == "journalctl":
        return journalctl(root, arguments)
    return systemctl(root, control_socket, arguments)


def systemctl(root: str, control_socket: str, arguments: list[str]) -> int:
    """Ask the supervisor; verbs that only touch files work without one."""
    try:
        answer = _ask(control_socket, arguments)
    except (FileNotFoundError, ConnectionRefusedError):
        answer = _without_supervisor(root, arguments)
    except ConnectionError as error:
        answer = {"stdout": [], "stderr": [f"Failed to talk to the host's supervisor: {error}"], "code": 1}
    for line in answer["stdout"]:
        print(line)
    for line in answer["stderr"]:
        print(line, file=sys.stderr)
    return int(answer["code"])


def _ask(path: str, arguments: list[str]) -> dict[str, Any]:
    folder, name = os.path.split(path)
    directory = os.open(folder, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            # Through a descriptor, since a socket's address has room for 107 bytes only.
            sock.connect(f"/proc/self/fd/{directory}/{name}")
            sock.sendall(json.dumps({"argv": arguments}).encode() + b"\n")
            with sock.makefile("rb") as stream:
                reply = stream.readline()
    finally:
        os.close(directory)
    if not reply:
        raise ConnectionResetError("it ended without an answer")
    return dict(json.loads(reply))


def _without_supervisor(root: str, arguments: list[str]) -> dict[str, Any]:
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from apps.sandbox.hosts import cmdline
    from apps.sandbox.hosts.names import Layout

    layout = Layout(Path(root))
    answer = cmdline.Answer()
    try:
        options = cmdline.parse(arguments)
        if options.verb in cmdline.FILE_VERBS and not options.now:
            cmdline.run_on_files(layout, options, answer)
        elif options.verb != "daemon-reload":
            answer.fail("System has not been booted with systemd as init system: the sandbox host is down.")
    except cmdline.UsageError as error:
        answer.fail(str(error))
    return vars(answer)


def journalctl(root: str, arguments: list[str]) -> int:
    """`journalctl -u UNIT [-n LINES]`: the unit's log file. Other filters are refused."""
    import argparse
    from pathlib import Path

    parser = argparse.ArgumentParser(prog="journalctl", allow_abbrev=False)
    parser.add_argument("-u", "--unit", required=True)
    parser.add_argument("-n", "--lines", default="all")
    parser.add_argument("-o", "--output", choices=("short", "cat"), default="short")
    parser.add_argument("--no-pager", action="store_true")
    parser.add_argument("-q", "--quiet", action="store_true")
    options = parser.parse_args(arguments)
    name = options.unit if "." in options.unit else f"{options.unit}.service"
    path = Path(root, "var/log/journal", f"{name}.log")
    if not path.exists():
        print("-- No entries --")
        return 0
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines if options.lines == "all" else lines[-int(options.lines) :]:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
