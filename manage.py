#!/usr/bin/env python3
"""Lockkeeper's commands."""

import gc
import os
import sys


def main() -> None:
    # Loading Django makes objects by the hundred thousand that all stay; looking through them for garbage
    # every 700 takes a tenth of the start.
    gc.set_threshold(50_000, 20, 20)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
        from django.db import OperationalError
    except ImportError:
        sys.exit("Django is not installed for this Python: run scripts/bootstrap, then use .venv/bin/python.")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        hint = " Is DATABASE_URL set?" if "settings.DATABASES" in str(error) else ""
        sys.exit(f"Configuration: {error}{hint}")
    except OperationalError as error:
        first_line = str(error).strip().partition("\n")[0]
        sys.exit(f"PostgreSQL cannot be used: {first_line}. Is it running, and is DATABASE_URL right?")


if __name__ == "__main__":
    main()
