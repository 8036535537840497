"""Failed requests and the longest wait while releases, good and bad, are deployed through the real hooks.

Whole deployments of a tiny service on a sandbox host (real units, gunicorn and hooks, all events) under
clients that ask without pause: GET and POST, with and without keep-alive, slow ones that send and read byte
by byte, and requests of 5 s in flight. Among the releases some cannot be imported, answer 500, hang at start
or die after a second: each must be refused with the old release serving. A request that is answered with
anything but 200, or not at all, failed; nothing is sent twice. A wait is what a request takes beyond its own
5 s and beyond the client's slowness.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path

from apps.releases.bundle import Bundle
from tests.hooks import trees
from tests.hooks.agent import Machine
from tests.hooks.campaign import ORDER, Campaign, Outcome, shorten_start
from tests.hooks.load import Load

LIMIT_S = 1800.0
PATIENCE_S = 6  # for the release that hangs


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench swap", description=__doc__)
    parser.add_argument("--swaps", type=int, default=50, help="deployments; 50 unless given")
    parser.add_argument("--clients", type=int, default=2, help="of each kind; 2 unless given")
    options = parser.parse_args()
    if options.swaps < 1 or options.clients < 1:
        parser.error("--swaps and --clients must be at least 1")
    with tempfile.TemporaryDirectory(prefix="bench-swap-") as temporary:
        return measure(Path(temporary), options.swaps, options.clients)


def measure(folder: Path, swaps: int, clients: int) -> int:
    """Run the deployments under load and print the figures."""
    wheelhouse = trees.make_wheelhouse(folder / "wheelhouse", ["gunicorn", "uv"])

    @cache
    def make(tale: str, at_import: str = "") -> Bundle:
        (folder / tale).mkdir()
        tree = trees.make_tiny_tree(folder / tale, tale=tale, at_import=at_import)
        return trees.bundle(tree, wheelhouse, folder / f"{tale}.tar")

    machine = Machine(folder / "host" / "root")
    outcomes: list[Outcome] = []
    try:
        shorten_start(machine, PATIENCE_S)
        campaign = Campaign(machine, make)
        campaign.begin()
        began = time.monotonic()
        with Load(machine.port, clients=clients, mixed=clients) as load:
            for outcome in campaign.deploy(ORDER, swaps):
                outcomes.append(outcome)
                what = outcome.fault or "good"
                print(
                    f"{outcome.number}/{swaps}: {what}, {outcome.seconds:.1f} s {outcome.problem}",
                    file=sys.stderr,
                )
                if time.monotonic() - began > LIMIT_S:
                    print(f"Stopped after {LIMIT_S:.0f} s: this machine is too busy.", file=sys.stderr)
                    return 1
        show(load, outcomes)
    finally:
        machine.up.power_off()
    return 1 if load.failures or any(outcome.problem for outcome in outcomes) else 0


def show(load: Load, outcomes: list[Outcome]) -> None:
    """A table for people, then one line for programs."""
    print(f"{'clients':<26}{'requests':>10}{'failed':>8}{'longest wait':>15}")
    for kind in load.kinds:
        print(f"{kind.name:<26}{kind.requests:>10}{len(kind.failures):>8}{kind.longest_s * 1000:>12.0f} ms")
    failures = load.failures
    print(f"{'all':<26}{load.requests:>10}{len(failures):>8}{load.longest_s * 1000:>12.0f} ms\n")
    print(f"{'releases':<26}{'deployments':>12}{'right one serves':>18}{'seconds each':>14}")
    for fault, count in Counter(outcome.fault for outcome in outcomes).items():
        of_it = [outcome for outcome in outcomes if outcome.fault == fault]
        right = sum(not outcome.problem for outcome in of_it)
        seconds = statistics.median(outcome.seconds for outcome in of_it)
        print(f"{fault or 'good':<26}{count:>12}{right:>18}{seconds:>14.1f}")
    problems = [f"deployment {each.number}: {each.problem}" for each in outcomes if each.problem]
    for line in [*failures[:10], *problems[:10]]:
        print(f"  {line}")
    figures = {
        "failed_requests": len(failures),
        "longest_wait_s": round(load.longest_s, 3),
        "swaps": len(outcomes),
        "deployments": len(outcomes),
        "bad_releases": sum(bool(outcome.fault) for outcome in outcomes),
        "wrong_release_serving": len(problems),
        "requests": load.requests,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    sys.exit(main())
