"""What all units have in common: states, their journal, conditions, and the start limit."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .config import UnitConfig
from .names import UnitName

if TYPE_CHECKING:
    from .manager import Manager

ACTIVE_STATES = frozenset({"active", "reloading"})


class UnitFailure(Exception):
    """A unit could not be brought up; result is systemd's word for why."""

    def __init__(self, result: str, message: str) -> None:
        super().__init__(message)
        self.result = result


class Job:
    """A start or stop in progress; its task becomes `done`, `failed`, `dependency` or `canceled`."""

    def __init__(self, kind: str, task: asyncio.Task[str]) -> None:
        self.kind = kind
        self.task = task


class Unit:
    """A loaded unit; targets need nothing more than this."""

    def __init__(self, manager: Manager, name: UnitName, config: UnitConfig | None) -> None:
        self.manager = manager
        self.name = name
        self.config = config
        self.active = "inactive"
        self.sub = "dead"
        self.result = "success"
        self.job: Job | None = None
        self.last_job = "done"
        self.since = time.time()
        self._starts: deque[float] = deque()

    @property
    def id(self) -> str:
        """The full name."""
        return str(self.name)

    @property
    def description(self) -> str:
        """The unit's Description=."""
        return self.config.description if self.config else self.id

    @property
    def busy(self) -> bool:
        """Active, becoming it, or asked to."""
        return self.active in {"active", "activating"} or (self.job is not None and self.job.kind == "start")

    @property
    def after(self) -> tuple[str, ...]:
        """Units that this one is ordered after."""
        return self.config.after if self.config else ()

    @property
    def requires(self) -> tuple[str, ...]:
        """Units without which this one is not started."""
        return self.config.requires if self.config else ()

    @property
    def wants(self) -> tuple[str, ...]:
        """Units that are started with this one."""
        return self.config.wants if self.config else ()

    def set_state(self, active: str, sub: str, result: str | None = None) -> None:
        """Change state and let those who depend on it look."""
        self.active, self.sub = active, sub
        self.since = time.time()
        if result is not None:
            self.result = result
        self.manager.changed(self)

    def log(self, message: str) -> None:
        """Write what the supervisor has to say about this unit into its journal."""
        # Not for others: services print what they should not.
        with open(self.journal, "a", encoding="utf-8", opener=_private) as journal:
            journal.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} systemd: {message}\n")

    @property
    def journal(self) -> Path:
        """The unit's log file."""
        return self.manager.layout.journal / f"{self.id}.log"

    def conditions_hold(self) -> bool:
        """False if a Condition is not met: the unit is then skipped without being a failure.

        Raises UnitFailure for an Assert that does not hold.
        """
        for key, value in self.config.conditions if self.config else ():
            negated = value.startswith("!")
            path = Path(value.lstrip("!|"))
            found = {
                "PathExists": path.exists(),
                "PathIsDirectory": path.is_dir(),
                "FileNotEmpty": path.is_file() and path.stat().st_size > 0,
            }[key.removeprefix("Condition").removeprefix("Assert")]
            if found == negated:
                if key.startswith("Assert"):
                    raise UnitFailure("assert", f"{key}={value} was not met")
                self.log(f"{self.description} was skipped: {key}={value} was not met.")
                return False
        return True

    def check_start_limit(self) -> None:
        """Raises UnitFailure when the unit was started too often within StartLimitIntervalSec."""
        if self.config is None or not self.config.start_limit_interval:
            return
        now = time.monotonic()
        while self._starts and self._starts[0] < now - self.config.start_limit_interval:
            self._starts.popleft()
        if len(self._starts) >= self.config.start_limit_burst:
            raise UnitFailure("start-limit-hit", "Start request repeated too quickly.")
        self._starts.append(now)

    def reset_failed(self) -> None:
        """Forget a failure and the starts that count towards the start limit."""
        self._starts.clear()
        if self.active == "failed":
            self.set_state("inactive", "dead", "success")

    async def start(self) -> None:
        """Bring the unit up; return when it is. Raises UnitFailure."""
        self.set_state("active", "active")

    async def stop(self) -> None:
        """Take the unit down; return when it is."""
        self.set_state("inactive", "dead")

    def properties(self) -> dict[str, str]:
        """What `systemctl show` tells."""
        return {
            "Id": self.id,
            "Names": self.id,
            "Description": self.description,
            "LoadState": "loaded",
            "ActiveState": self.active,
            "SubState": self.sub,
            "Result": self.result,
            "FragmentPath": str(self.config.file.fragment) if self.config else "",
            "Requires": " ".join(self.requires),
            "Wants": " ".join(self.wants),
            "After": " ".join(self.after),
            "PartOf": " ".join(self.config.part_of if self.config else ()),
            "StateChangeTimestamp": datetime.fromtimestamp(self.since, UTC).strftime(
                "%a %Y-%m-%d %H:%M:%S UTC"
            ),
        }


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
