"""Errors that a user can do something about; the API and the commands show their text."""


class DomainError(Exception):
    """A request that cannot be met. The text says what is wrong and what to do."""

    status = 409
    title = "Conflict"


class NotFound(DomainError):
    """Something named in the request does not exist, or is not visible to this user."""

    status = 404
    title = "Not found"


class Invalid(DomainError):
    """The request or a file in it is not of the form it must have."""

    status = 400
    title = "Invalid request"


class Forbidden(DomainError):
    """The user may see it but not do this."""

    status = 403
    title = "Forbidden"


class TooLarge(DomainError):
    """More than is taken, or read, of it at once; the text has the limit."""

    status = 413
    title = "Request too large"


class Unavailable(DomainError):
    """Something that Lockkeeper needs does not answer; the same request may succeed later."""

    status = 503
    title = "Temporarily unavailable"

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after
