"""Run what one lifecycle event does: ``python3 scripts/codedeploy/deploy EVENT --root ROOT``."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whatever the host has runs this
    sys.exit(
        f" !     PYTHON={sys.executable} in etc/lockkeeper/host is not a Python of 3.11 or later; run "
        "scripts/provision-host again. Known cause: missing-interpreter (docs/hooks.md)"
    )

import argparse
import os
import signal
from pathlib import Path
from types import FrameType

# The folder of a program comes first on sys.path, where deploy/platform_check.py and its neighbours would be
# top-level modules. With the folder above instead, they are what they say: deploy.platform_check.
sys.path[0] = str(Path(__file__).absolute().parents[1])

from deploy import events, output  # noqa: E402 - needs the path above
from deploy.errors import Failure, Interrupted, failure_of  # noqa: E402
from deploy.flight import Flight  # noqa: E402


def interrupt(number: int, _frame: FrameType | None) -> None:
    """Turn a signal into an exception, so that what was started is put away."""
    raise Interrupted(f"Stopped by {signal.Signals(number).name}; running the deployment again carries on.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy", description=__doc__)
    parser.add_argument("event", choices=sorted(events.EVENTS), metavar="EVENT")
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="what stands before /opt/codedeploy-agent/"
    )
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupt)
    os.umask(0o022)
    archive = Path(__file__).absolute().parents[3]
    flight = Flight(options.event, root=options.root, environ=os.environ)
    failure = attempt(options.event, options.root, archive)
    flight.end(failure)
    # The summary comes last, and is short: CodeDeploy shows the last whole lines below 2,048 characters.
    for line in flight.summary(failure) if failure else ():
        output.warn(line)
    return 1 if failure else 0


def attempt(event: str, root: Path, archive: Path) -> Failure | None:
    """Do what the event asks for; why it failed, or None."""
    try:
        events.run(event, root=root, archive=archive, environ=os.environ)
    except Failure as failure:
        return failure
    except OSError as error:
        return failure_of(error)
    except Exception as error:  # a fault of this program, which must not end in a traceback alone
        import traceback

        output.detail("".join(traceback.format_exception(error)))
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return Failure(
            f"the hooks themselves are at fault ({said}); deploy the release before, and report it."
        )
    return None


if __name__ == "__main__":
    sys.exit(main())
