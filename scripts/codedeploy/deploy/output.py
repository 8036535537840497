"""What the hooks print: CodeDeploy keeps it in scripts.log and shows its end.

All of it goes through the redactor, and to one stream: the agent reads two by two threads, and mixes them.
"""

import os
import sys
from collections import deque

from deploy.redaction import redact

# CodeDeploy shows the last whole lines below 2,048 characters, so a long one costs all those before it.
LONGEST = 480
# The end of what was printed, for the flight record.
tail: deque[str] = deque(maxlen=40)


def heading(text: str) -> None:
    """Say what begins."""
    _say("----->", text)


def detail(text: str) -> None:
    """Say more about the step, or pass on what a program printed."""
    _say("      ", text)


def warn(text: str) -> None:
    """Say what did not go as it should."""
    _say(" !    ", text)


def _say(mark: str, text: str) -> None:
    for line in redact(text).splitlines() or [""]:
        shown = line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
        tail.append(f"{mark} {shown}"[:300])
        try:
            print(f"{mark} {shown}", flush=True)
        except OSError:
            # The agent has died. What nobody reads any more must not stop the work halfway.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - open until the end
