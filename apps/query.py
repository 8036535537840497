"""What is wrong with a query; apart, since DRF loads the project's own classes before its views."""

from rest_framework.exceptions import ValidationError


class QueryError(ValidationError):
    """A query parameter that is unknown or has a value it cannot have."""
