"""Thousands of values in one parameter of a statement."""

from collections.abc import Iterable


def array_literal(values: Iterable[int | str | None]) -> str:
    """Numbers or plain words as PostgreSQL reads an array; None is NULL. Cast it to the array's type.

    The driver writes a list as ARRAY[...], an expression of as many parts, which can take longer to plan than
    the statement to run.
    """
    return f"{{{','.join('NULL' if value is None else str(value) for value in values)}}}"
