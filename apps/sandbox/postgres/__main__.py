"""The command line: run a command with a database."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from . import PostgresError, server
from .account import die_with_parent
from .errors import say

DATABASE = "lockkeeper"
NO_SERVER = 125  # tells our own failure from the command's, whose status is 0 to 123 or 128 and more


def run_command(command: list[str], *, state: Path | None) -> int:
    """Run `command` with DATABASE_URL set and return its exit status, 128+N for signal N.

    127 and 126 stand for a command that is not there and one that cannot be run, as in a shell.
    """
    with server(state) as there:
        environment = dict(os.environ)
        if "DATABASE_URL" not in environment:
            environment["DATABASE_URL"] = there.create_database(DATABASE)
        # Ctrl-C reaches the command by itself; a TERM to us is meant for it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            child = subprocess.Popen(
                command, env=environment, restore_signals=True, preexec_fn=_command_preparation()
            )
        except OSError as error:
            say(f"{command[0]}: {error.strerror}")
            return 127 if isinstance(error, FileNotFoundError) else 126
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        status = child.wait()
    return 128 - status if status < 0 else status


def _command_preparation() -> Callable[[], None]:
    die = die_with_parent(signal.SIGTERM)

    def prepare() -> None:
        die()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return prepare


def main(arguments: list[str] | None = None) -> NoReturn:
    parser = argparse.ArgumentParser(
        prog="python -m apps.sandbox.postgres", description="A private PostgreSQL server."
    )
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="run a command with DATABASE_URL set")
    run.add_argument("--state", type=Path, help="folder for data and log; default: a temporary one")
    run.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args(arguments)
    # A TERM ends the block above by an exception, so that the server is stopped and its data removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(run_command(options.command, state=options.state))
    except PostgresError as error:
        say(str(error))
        sys.exit(NO_SERVER)


if __name__ == "__main__":
    main()
