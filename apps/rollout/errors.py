"""What can keep a release's migrations from being applied. Every text says what to do next."""

from django.db import InterfaceError, OperationalError

from apps.errors import DomainError

# How the hooks and the control plane name this known cause.
LOCK = "lock-not-granted"
LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"


class MigrationError(DomainError):
    """The migrations were not applied; ``cause`` is the code of a known cause, where it is one."""

    def __init__(self, text: str, cause: str = "") -> None:
        super().__init__(text)
        self.cause = cause


class LockNotGranted(MigrationError):
    """A migration, or the migrations as a whole, did not get a lock in time."""

    def __init__(self, text: str) -> None:
        super().__init__(text, LOCK)


class AnotherFailed(MigrationError):
    """Another host of this deployment has tried, and failed."""


class DatabaseAway(MigrationError):
    """PostgreSQL cannot be reached, or was lost on the way."""


def code_of(error: BaseException) -> str:
    """PostgreSQL's code of an error of Django's; empty where it has none, as when the connection is lost."""
    return getattr(error.__cause__, "pgcode", None) or ""


def is_lock_error(error: BaseException) -> bool:
    return code_of(error) in {LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED}


def is_lost_connection(error: BaseException) -> bool:
    """Whether the session is gone: closed, ended by an administrator, or by the server's own end."""
    if isinstance(error, InterfaceError):
        return True
    # Class 08: connection exceptions; 57P: the server or somebody ended it.
    return isinstance(error, OperationalError) and code_of(error)[:3] in {"", "080", "57P"}


def in_one_line(error: BaseException) -> str:
    """An error's text on one line; PostgreSQL's have the statement and a caret below them."""
    return " ".join(str(error).split()) or type(error).__name__
