"""How the demo ends when it does not end well."""

from pathlib import Path


class DemoError(Exception):
    """Something did not go as it should: the reason, and the log that has the rest."""

    def __init__(self, reason: str, log: Path | None = None) -> None:
        super().__init__(reason)
        self.log = log
