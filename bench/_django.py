"""Django on a database of its own, for measurements: scripts/bench does not list this file.

Call ``set_up`` before the first import of a model. The server is a private one unless DATABASE_URL names
another, and trades durability for speed (no fsync), so a commit costs less here than on a disk.
"""

import atexit
import os
import signal
import sys
from contextlib import ExitStack

import django

from apps.sandbox import postgres


def set_up() -> None:
    """Start PostgreSQL, make an empty database with all migrations applied; both are gone at exit."""
    stack = ExitStack()
    atexit.register(stack.close)
    # A TERM ends the process by an exception, so that the server is stopped and its data removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    server = stack.enter_context(postgres.server())
    name = f"lockkeeper_bench_{os.getpid()}"
    os.environ["DATABASE_URL"] = server.create_database(name)
    stack.callback(server.drop_database, name)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")
    os.environ.setdefault("SECRET_KEY", "for-measurements-only-it-protects-nothing-0123456789")
    os.environ.setdefault("ALLOWED_HOSTS", "localhost,testserver")
    os.environ.setdefault("STATIC_FROM_SOURCE", "true")
    # What is measured is written to the terminal; each refusal in the log would be too.
    os.environ.setdefault("LOG_LEVEL", "ERROR")
    django.setup()

    from django.core.management import call_command
    from django.db import connections

    stack.callback(connections.close_all)
    call_command("migrate", verbosity=0)
