"""The exceptions of this program."""


class Failure(Exception):
    """The deployment cannot go on. The text is one sentence that says why, and what to do.

    ``cause`` is the code of a known cause (docs/hooks.md lists them), empty where it is none.
    """

    def __init__(self, text: str, cause: str = "") -> None:
        super().__init__(text)
        self.cause = cause


class Interrupted(Failure):
    """The agent, or someone on the host, asked this program to end."""
