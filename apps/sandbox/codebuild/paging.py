"""Pages of lists, as CodeBuild hands them out."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, TypeVar

from apps.sandbox.protocol import AwsError

T = TypeVar("T")
PAGE_SIZE = 100  # CodeBuild's default and largest page


def page(items: Sequence[T], token: str | None, size: int | None = None) -> tuple[list[T], str | None]:
    """Return one page and the token of the next; raise InvalidInputException for a token not ours."""
    start = 0
    if token:
        try:
            start = int(base64.urlsafe_b64decode(token.encode()).decode())
        except (ValueError, binascii.Error) as error:
            raise AwsError("InvalidInputException", "Invalid next token") from error
    end = start + (size or PAGE_SIZE)
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else None
    return list(items[start:end]), following


def ordered(items: Sequence[T], sort_order: str | None, default: str = "DESCENDING") -> list[T]:
    """Return items, which are oldest first, in the order asked for."""
    return list(items) if (sort_order or default) == "ASCENDING" else list(reversed(items))


def refuse_members(members: dict[str, Any], supported: set[str], place: str) -> None:
    """Refuse parameters that AWS takes and this sandbox would ignore.

    Values that ask for nothing (False, an empty list, zero) pass.
    """
    unsupported = sorted(name for name, value in members.items() if value and name not in supported)
    if unsupported:
        raise AwsError(
            "InvalidInputException", f"The sandbox does not support {place}: {', '.join(unsupported)}."
        )
