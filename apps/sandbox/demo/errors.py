"""How the demo ends when it does not end well."""

from pathlib import Path


class DemoError(Exception):
    """Something did not go as it should: the reason, and the log that has the rest."""

    def __init__(self, reason: str, log: Path | None = None) -> None:
        super().__init__(reason)
        self.log = log


class Stopped(BaseException):
    """A signal asked for the end; `signum` is its number.

    As KeyboardInterrupt, it is no Exception: botocore wraps every Exception that reaches it in one of its
    own, and a signal during a call would be told as a refusal of AWS.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
