"""The named steps of a deployment: said when they begin, and kept for the flight record."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from deploy import output

# In the order in which a deployment takes them. Names are stable: records, tests and documentation use them.
STEPS = (
    "check-deployment",
    "check-platform",
    "check-archive",
    "leftovers",
    "room",
    "configuration",
    "environment",
    "release",
    "prepare",
    "publish",
    "start",
    "prove",
    "point",
    "stop-others",
    "front-door",
    "put-back",
    "warm-up",
    "retention",
)


@dataclass
class Step:
    """One step of this event; times are of the monotonic clock, ``seconds`` is None while it lasts."""

    name: str
    text: str
    started: float
    seconds: float | None = None
    result: str = "running"


# The steps of this process, which is one event, in the order in which they began.
taken: list[Step] = []
_watchers: list[Callable[[], None]] = []


def watch(changed: Callable[[], None]) -> None:
    """Have ``changed`` called whenever a step begins or ends."""
    _watchers.append(changed)


@contextmanager
def step(name: str, text: str) -> Iterator[None]:
    """Do what is inside as the step ``name``, one of STEPS; ``text`` is printed and recorded."""
    if name not in STEPS:
        raise ValueError(f"{name!r} is not among deploy.steps.STEPS")
    this = Step(name, text, time.monotonic())
    taken.append(this)
    output.heading(text)
    _tell()
    try:
        yield
    except BaseException:
        _end(this, "failed")
        raise
    _end(this, "succeeded")


def _end(this: Step, result: str) -> None:
    this.seconds = time.monotonic() - this.started
    this.result = result
    _tell()


def _tell() -> None:
    for changed in _watchers:
        changed()
