"""BlockTraffic and AllowTraffic: an instance is taken out of its target groups and put back into them.

It stays out when a later event fails, as on AWS; the next deployment to it puts it back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from apps.sandbox.balancer import targets
from apps.sandbox.balancer.errors import BalancerError


class TrafficError(Exception):
    """A load balancer did not do what was asked; the message says what."""


def block(target_groups: Sequence[str], instance: str, alive: Callable[[], bool]) -> None:
    """Take an instance out of target groups; return when no connection to it is left.

    Raises TrafficError. Returns early once alive says that the sandbox ends.
    """
    _for_each(targets.deregister, target_groups, instance, alive)


def allow(target_groups: Sequence[str], instance: str, alive: Callable[[], bool]) -> None:
    """Put an instance back into target groups; return when it is healthy. Raises TrafficError as block."""
    _for_each(targets.register, target_groups, instance, alive)


def _for_each(
    call: Callable[[str, str], None], target_groups: Sequence[str], instance: str, alive: Callable[[], bool]
) -> None:
    for name in target_groups:
        problems: list[Exception] = []

        def carry_out(name: str = name, problems: list[Exception] = problems) -> None:
            try:
                call(name, instance)
            except Exception as error:
                problems.append(error)

        # In a thread that is not waited for: a drain can take minutes, and the sandbox may have to end.
        thread = threading.Thread(target=carry_out, daemon=True)
        thread.start()
        while thread.is_alive() and alive():
            thread.join(0.05)
        for problem in problems:
            if isinstance(problem, BalancerError):
                raise TrafficError(str(problem)) from None
            raise problem
