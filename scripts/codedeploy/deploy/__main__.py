"""Run what one lifecycle event does: ``python3 scripts/codedeploy/deploy EVENT --root ROOT``."""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

# The folder of a program comes first on sys.path, where deploy/platform_check.py and its neighbours would be
# top-level modules. With the folder above instead, they are what they say: deploy.platform_check.
sys.path[0] = str(Path(__file__).absolute().parents[1])

from deploy import events  # noqa: E402 - needs the path above
from deploy.errors import Failure, Interrupted  # noqa: E402


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
    try:
        events.run(options.event, root=options.root, archive=archive, environ=os.environ)
    except Failure as failure:
        message = str(failure)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        message = f"{place}{error.strerror or error}. Put that right and run the deployment again."
    else:
        return 0
    # CodeDeploy shows the last whole lines below 2,048 characters, and nothing when one line is longer.
    sys.stdout.flush()
    print(f" !     {options.event} failed: {message[:1500]}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
