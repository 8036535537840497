"""The one exception of this program."""


class Failure(Exception):
    """The deployment cannot go on. The text is one sentence that says why, and what to do."""


class Interrupted(Failure):
    """The agent, or someone on the host, asked this program to end."""
