"""What every management command of Lockkeeper shares: errors a user can act on, never a traceback."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connection

from apps.errors import DomainError


class DomainCommand(BaseCommand):
    """A command whose expected failures end as one line on stderr and an exit code."""

    # The checks of a whole server (URLs, admin) take longer than most commands.
    requires_system_checks: Any = []
    # Its exit code after such a failure. Another where 1 is an answer: to find nothing out is none.
    failure_code = 1

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            error.returncode = self.failure_code
            raise
        except DomainError as error:
            raise self.failure(str(error)) from error
        except ImproperlyConfigured as error:
            missing = "DATABASE_URL is not set: this command needs the database."
            raise self.failure(missing if connection.vendor == "unknown" else str(error)) from error
        except (OperationalError, InterfaceError) as error:
            raise self.failure(database_problem(error)) from error

    def failure(self, reason: str) -> CommandError:
        return CommandError(reason, returncode=self.failure_code)


def database_problem(error: Exception) -> str:
    """One line on why PostgreSQL could not be used, and what to do."""
    detail = " ".join(str(error).split())
    return f"PostgreSQL does not answer ({detail}). Check that it runs and that DATABASE_URL points to it."
