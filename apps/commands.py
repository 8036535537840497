"""What every management command of Lockkeeper shares: errors a user can act on, never a traceback."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connection

from apps.errors import DomainError


class DomainCommand(BaseCommand):
    """A command whose expected failures end as one line on stderr and exit code 1."""

    # The checks of a whole server (URLs, admin) take longer than most commands.
    requires_system_checks: Any = []

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except DomainError as error:
            raise CommandError(str(error)) from error
        except ImproperlyConfigured as error:
            missing = "DATABASE_URL is not set: this command needs the database."
            raise CommandError(missing if connection.vendor == "unknown" else str(error)) from error
        except (OperationalError, InterfaceError) as error:
            raise CommandError(database_problem(error)) from error


def database_problem(error: Exception) -> str:
    """One line on why PostgreSQL could not be used, and what to do."""
    detail = " ".join(str(error).split())
    return f"PostgreSQL does not answer ({detail}). Check that it runs and that DATABASE_URL points to it."
