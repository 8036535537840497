"""Read settings from the environment, refusing bad values instead of guessing."""

import os
from collections.abc import Mapping

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off"}


class Env:
    """Typed reads of environment variables; a bad value raises ImproperlyConfigured naming it."""

    def __init__(self, values: Mapping[str, str] = os.environ) -> None:
        self.values = values

    def text(self, name: str, default: str = "") -> str:
        """The variable's value, or ``default`` where it is not set."""
        return self.values.get(name, default)

    def boolean(self, name: str, default: bool) -> bool:
        """true/false, yes/no, on/off or 1/0; anything else stops the process."""
        value = self.values.get(name, "").strip().lower()
        if not value:
            return default
        if value not in TRUE | FALSE:
            raise ImproperlyConfigured(f"{name}={value!r} is not a boolean: use true or false.")
        return value in TRUE

    def integer(self, name: str, default: int, *, minimum: int = 0) -> int:
        """A whole number of at least ``minimum``."""
        value = self.values.get(name, "").strip()
        if not value:
            return default
        try:
            number = int(value)
        except ValueError:
            raise ImproperlyConfigured(f"{name}={value!r} is not a whole number.") from None
        if number < minimum:
            raise ImproperlyConfigured(f"{name}={number} is too small: at least {minimum}.")
        return number

    def choice(self, name: str, default: str, choices: set[str]) -> str:
        """One of ``choices``, compared without case."""
        value = self.values.get(name, "").strip().upper() or default
        if value not in choices:
            raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(sorted(choices))}.")
        return value

    def listing(self, name: str) -> list[str]:
        """Comma-separated values, blanks removed."""
        return [part.strip() for part in self.values.get(name, "").split(",") if part.strip()]
