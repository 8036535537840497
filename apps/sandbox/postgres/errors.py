"""What goes wrong with a private server, and how it is said."""

import sys


class PostgresError(Exception):
    """No server could be had; the message says why and what to do."""


def say(message: str) -> None:
    print(f"postgres: {message}", file=sys.stderr)
