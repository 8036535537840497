"""Searches that may have to read a whole table, and end nevertheless."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction
from psycopg2 import errors

from apps.errors import Invalid

SEARCH_MS = 3000


@contextmanager
def bounded_search(advice: str = "Name a service as well.") -> Iterator[None]:
    """Within it a query of a search is given up after SEARCH_MS; Invalid then, which ends with ``advice``.

    What is looked for may be anywhere in a name, so a search reads all names: of a service with a million
    tests in half a second, but a large installation has many such services.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s", [SEARCH_MS])
            yield
    except OperationalError as error:
        if not isinstance(error.__cause__, errors.QueryCanceled):
            raise
        raise Invalid(
            f"The search was given up after {SEARCH_MS / 1000:g} s, since there is too much to look through. "
            f"{advice}"
        ) from error
