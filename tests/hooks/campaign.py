"""Deployment after deployment on one host, of good releases and bad ones, and which one serves after each."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from apps.releases.bundle import Bundle
from tests.hooks.agent import Deployment, HookFailed, Machine

# What is wrong with a release, as a line of its module.
FAULTS = {
    "cannot be imported": "import no_such_module",
    "answers 500": "RELEASE = None",
    "hangs at start": "time.sleep(3600)",
    "dies after a second": "import threading; threading.Timer(1.0, os._exit, [3]).start()",
}
ORDER = (
    "good",
    "cannot be imported",
    "good",
    "answers 500",
    "good",
    "hangs at start",
    "good",
    "dies after a second",
    "good",
    "good",
)
ARCHIVES = 5  # kept by the agent


@dataclass
class Outcome:
    """One deployment of a campaign."""

    number: int
    fault: str  # "" of a good release
    seconds: float
    said: str  # the last line of a deployment that was refused
    problem: str  # "" if the right release serves


def shorten_start(machine: Machine, seconds: int) -> None:
    """Give up a release that does not come up after so long, instead of the unit's own minute."""
    machine.lose_patience(seconds)
    folder = machine.root / "etc/systemd/system/lockkeeper@.service.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "20-patience.conf").write_text(f"[Service]\nTimeoutStartSec={seconds}\n")
    machine.up.systemctl("daemon-reload")


class Campaign:
    """Deployments to a machine that serves already; ``make`` makes a bundle from a tale and a fault."""

    def __init__(self, machine: Machine, make: Callable[..., Bundle]) -> None:
        self.machine = machine
        self.make = make
        self.good = cycle(("red", "green", "blue"))
        self.digest = ""
        self._folders: list[Path] = []

    def begin(self) -> None:
        """The first release, before anybody asks."""
        self._run(self.make(next(self.good)))

    def deploy(self, order: tuple[str, ...], count: int) -> Iterator[Outcome]:
        """Deploy ``count`` releases in this order, over and over."""
        for number, what in enumerate(islice(cycle(order), count), start=1):
            fault = "" if what == "good" else what
            bundle = (
                self.make(what.replace(" ", "-"), at_import=FAULTS[what])
                if fault
                else self.make(next(self.good))
            )
            before, began = self.digest, time.monotonic()
            try:
                said = self._run(bundle)
            except HookFailed as error:
                said, problem = "", f"broke too early: {error}"
            else:
                problem = self._judge(bundle, fault, before, said)
            yield Outcome(number, fault, time.monotonic() - began, said, problem)

    def _run(self, bundle: Bundle) -> str:
        """A whole deployment; the last line of the hook that refused it, "" if none did."""
        deployment = Deployment(self.machine, bundle)
        self._folders.append(deployment.folder)
        result = deployment.run_until("ApplicationStart")
        if not result.code:
            result = deployment.run("ValidateService")
        while len(self._folders) > ARCHIVES:
            shutil.rmtree(self._folders.pop(0))
        if result.code:
            return result.reason
        self.digest = bundle.digest
        return ""

    def _judge(self, bundle: Bundle, fault: str, before: str, said: str) -> str:
        serving = self.machine.serving()
        if fault and not said:
            return "it was not refused"
        if not fault and said:
            return f"it was refused: {said}"
        wanted = before if fault else bundle.digest
        if serving != wanted:
            return f"{serving[:12]} serves and not {wanted[:12]}"
        if self.machine.pointer("current") != wanted:
            return f"current is {self.machine.pointer('current')} and not {wanted[:12]}"
        return ""
