"""The command line of scripts/demo, and how a run of it begins and ends."""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from .cloud import ENVIRONMENTS
from .console import Progress
from .errors import DemoError
from .register import PEOPLE
from .scenario import SCENARIOS
from .services import adopt_orphans, end_everything
from .signals import Signals
from .slot import Slot, take_slot
from .source import Repository
from .steps import Demo, Release
from .story import Story

ROOT = Path(__file__).resolve().parents[3]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Bring HEAD of this checkout from source to serving on this machine: built by CodeBuild, "
        "judged at the gate, shipped by CodeDeploy. Everything it keeps is below .local/.",
    )
    parser.add_argument("--approve", action="store_true", help="give the approval too, as the second user")
    parser.add_argument("--exit", action="store_true", help="end after success instead of staying up")
    parser.add_argument(
        "--scenario",
        action="append",
        default=[],
        choices=sorted(SCENARIOS),
        help="a commit after the first: upgrade replaces it in production under requests, the others go "
        "wrong on purpose; may be given more than once",
    )
    return parser.parse_args(arguments)


@dataclass
class Run:
    """One run of the demo, from the command line to the exit code."""

    options: argparse.Namespace
    progress: Progress = field(default_factory=Progress)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    slot: Slot | None = None
    up: bool = False  # everything has been told, and stays up

    def tell(self) -> int:
        """Do everything; return the exit code."""
        try:
            self.slot = take_slot(ROOT / ".local" / "demo")
            demo = Demo(ROOT, self.slot, self.progress, self.stack)
            perform(demo, self.options)
            if not self.options.exit:
                self.up = True
                stay(demo)
        except DemoError as error:
            self._say(f"The demo failed: {error}", f"Log: {error.log}" if error.log else "", self._logs())
        except (ClientError, BotoCoreError) as error:
            self._say(f"The demo failed: the embedded AWS refused: {error}", self._logs())
        except OSError as error:
            self._say(f"The demo failed: {error}", self._logs())
        else:
            return 0
        return 1

    def end(self, code: int | None, signum: int | None) -> int:
        """Take everything down; return the exit code."""
        if signum is not None:
            # Ctrl-C is how a demo that stays up is meant to end.
            code = 0 if self.up else 128 + signum
            name = signal.Signals(signum).name
            self._say("Taking it down …" if self.up else f"Stopped by {name}.")
        try:
            self.stack.close()
        finally:
            end_everything()
            if self.slot:
                self.slot.close()
        return 1 if code is None else code

    def _logs(self) -> str:
        return f"All logs: {self.slot.logs}" if self.slot else ""

    def _say(self, text: str, *more: str) -> None:
        # The terminal may be the first thing that has gone.
        with contextlib.suppress(OSError):
            self.progress.pause()
            self.progress.say(text, "bold red" if more else "")
            for line in filter(None, more):
                self.progress.say(line)


def main() -> NoReturn:
    options = parse_arguments()
    adopt_orphans()
    run, signals = Run(options), Signals()
    code: int | None = None
    try:
        code = signals.guard(run.tell)
    finally:
        code = run.end(code, signals.signum)
    leave(code)


def leave(code: int) -> NoReturn:
    """Exit; what can no longer be shown does not change the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def perform(demo: Demo, options: argparse.Namespace) -> None:
    """Set up, tell the story, and stay unless told otherwise."""
    repository = Repository(demo.root)
    head = repository.head()
    progress = demo.progress
    with progress:
        if changes := repository.changes():
            progress.say(
                f"{len(changes)} uncommitted changes are not shipped, only {head[:12]} is: "
                f"{', '.join(changes[:3])}{' …' if len(changes) > 3 else ''}",
                "yellow",
            )
        demo.set_up()
        story = Story(demo, repository, options.approve)
        release = story.good()
        outcomes: dict[str, Any] = {}
        if "upgrade" in options.scenario:
            release = story.upgrade(release)
            outcomes["upgrade"] = story.rolled[-1].saved()
        if "red-test" in options.scenario:
            outcomes["red-test"] = story.red_test()
        if "bad-release" in options.scenario:
            outcomes["bad-release"] = story.bad_release(release)
    progress.save(
        demo.slot.folder / "result.json",
        release={"commit": release.commit, "version": release.version, "digest": release.digest},
        hosts={host.name: host.url for host in demo.hosts},
        front_doors=demo.front_doors,
        rolling=[tally.saved() for tally in story.rolled],
        migrations=story.migrated,
        scenarios=outcomes,
    )
    show(demo, story, release)


def show(demo: Demo, story: Story, release: Release) -> None:
    """Say where everything is."""
    say, control = demo.progress.say, demo.control
    say()
    say(
        f"{release.version} serves in {' and '.join(ENVIRONMENTS)}; its digest is {release.digest}.",
        "bold green",
    )
    for environment, url in demo.front_doors.items():
        hosts = [host for host in demo.hosts if host.environment == environment]
        balancer = f"  load balancer of {len(hosts)} hosts" if len(hosts) > 1 else ""
        say(f"  {environment:<11} {url}/version{balancer}")
        if balancer:
            for host in hosts:
                say(f"              {host.url}/version  {host.name}")
    for tally, migrated in zip(story.rolled, story.migrated, strict=True):
        say(f"Rolling deployment to production, host by host: {tally}.")
        if migrated:
            told = ", ".join(f"{host} {result}" for host, result in migrated.items())
            say(f"  migrations: {told}")
    say("Lockkeeper", "bold")
    say(f"  admin       {control.url}/admin/")
    say(f"  API         {control.url}/api/docs/")
    for user in PEOPLE:
        say(f"  {user:<11} {control.show_password(user)}")
    say(f"  token       in {control.token_file}, of the user jenkins")
    say(f"  commands    {control.manage} --help")
    say("Embedded AWS", "bold")
    say(f"  endpoint    AWS_ENDPOINT_URL={demo.cloud.endpoint}")
    say(f"Logs and state: {demo.slot.folder}")


def stay(demo: Demo) -> NoReturn:
    """Stay up until a signal comes."""
    demo.progress.say()
    demo.progress.say("Everything stays up until Ctrl-C.", "bold")
    while True:
        demo.check()
        time.sleep(0.5)
