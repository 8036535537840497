"""The command line of scripts/demo."""

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from .cloud import ENVIRONMENTS
from .console import Progress
from .errors import DemoError, Stopped
from .register import PEOPLE
from .scenario import SCENARIOS
from .services import adopt_orphans, end_everything
from .slot import Slot, take_slot
from .source import Repository
from .steps import Demo, Release
from .story import Story

ROOT = Path(__file__).resolve().parents[3]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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


def stop_on_signals() -> None:
    def stop(signum: int, _: FrameType | None) -> None:
        ignore_signals()  # what follows is the end, which must not be interrupted
        raise Stopped(signum)

    for signum in SIGNALS:
        signal.signal(signum, stop)


def ignore_signals() -> None:
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def main() -> NoReturn:
    options = parse_arguments()
    adopt_orphans()
    stop_on_signals()
    progress = Progress()
    code = 1
    stack = contextlib.ExitStack()
    slot: Slot | None = None
    try:
        slot = take_slot(ROOT / ".local" / "demo")
        demo = Demo(ROOT, slot, progress, stack)
        perform(demo, options)
        code = 0
    except Stopped as stopped:
        progress.pause()
        progress.say(f"Stopped by {signal.Signals(stopped.signum).name}.")
        code = 128 + stopped.signum
    except DemoError as error:
        progress.pause()
        progress.say(f"The demo failed: {error}", "bold red")
        if error.log:
            progress.say(f"Log: {error.log}")
        if slot:
            progress.say(f"All logs: {slot.logs}")
    except (ClientError, BotoCoreError) as error:
        progress.pause()
        progress.say(f"The demo failed: the embedded AWS refused: {error}", "bold red")
        if slot:
            progress.say(f"Log: {slot.logs / 'aws.log'}")
    except OSError as error:
        progress.pause()
        progress.say(f"The demo failed: {error}", "bold red")
    finally:
        ignore_signals()
        stack.close()
        end_everything()
        if slot:
            slot.close()
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
        scenarios=outcomes,
    )
    show(demo, story, release)
    if not options.exit:
        stay(demo)


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
    for tally in story.rolled:
        say(f"Rolling deployment to production, host by host: {tally}.")
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


def stay(demo: Demo) -> None:
    """Stay up until a signal comes, which is a good end."""
    demo.progress.say()
    demo.progress.say("Everything stays up until Ctrl-C.", "bold")
    try:
        while True:
            demo.check()
            time.sleep(0.5)
    except Stopped:
        demo.progress.say("Taking it down …")


if __name__ == "__main__":
    main()
