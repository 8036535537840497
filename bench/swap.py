"""Failed requests and the longest wait while releases take over from each other, through the real hooks.

Two releases of a tiny service swap back and forth on a sandbox host: real units, gunicorn and hooks
(ApplicationStart, ValidateService), under clients that ask without pause, with GET and POST, with and without
keep-alive. A request that is answered with anything but 200, or not at all, failed; nothing is sent twice.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.hooks import trees
from tests.hooks.agent import Machine
from tests.hooks.load import Load

LIMIT_S = 900.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench swap", description=__doc__)
    parser.add_argument("--swaps", type=int, default=20, help="how many; 20 unless given")
    parser.add_argument("--clients", type=int, default=3, help="of each of the four kinds; 3 unless given")
    options = parser.parse_args()
    if options.swaps < 1 or options.clients < 1:
        parser.error("--swaps and --clients must be at least 1")
    with tempfile.TemporaryDirectory(prefix="bench-swap-") as temporary:
        return measure(Path(temporary), options.swaps, options.clients)


def measure(folder: Path, swaps: int, clients: int) -> int:
    """Run the swaps under load and print the figures."""
    wheelhouse = trees.make_wheelhouse(folder / "wheelhouse", ["gunicorn", "uv"])
    machine = Machine(folder / "host" / "root")
    try:
        releases = []
        for tale in ("one", "two"):
            (folder / tale).mkdir()
            bundle = trees.bundle(
                trees.make_tiny_tree(folder / tale, tale=tale), wheelhouse, folder / f"{tale}.tar"
            )
            releases.append(machine.deploy(bundle))
        began = time.monotonic()
        durations = []
        with Load(machine.port, clients=clients) as load:
            for number in range(swaps):
                start = time.monotonic()
                for event in ("ApplicationStart", "ValidateService"):
                    result = releases[number % 2].run(event)
                    if result.code:
                        print(result.output, file=sys.stderr)
                        return 1
                durations.append(time.monotonic() - start)
                print(f"swap {number + 1}/{swaps}: {durations[-1]:.1f} s", file=sys.stderr)
                if time.monotonic() - began > LIMIT_S:
                    print(f"Stopped after {LIMIT_S:.0f} s: this machine is too busy.", file=sys.stderr)
                    return 1
        show(load, durations)
    finally:
        machine.up.power_off()
    return 1 if load.failures else 0


def show(load: Load, durations: list[float]) -> None:
    """A table for people, then one line for programs."""
    print(f"{'clients':<26}{'requests':>10}{'failed':>8}{'longest wait':>15}")
    for kind in load.kinds:
        print(f"{kind.name:<26}{kind.requests:>10}{len(kind.failures):>8}{kind.longest_s * 1000:>12.0f} ms")
    failures = load.failures
    print(f"{'all':<26}{load.requests:>10}{len(failures):>8}{load.longest_s * 1000:>12.0f} ms")
    print(f"{len(durations)} swaps, {sum(durations) / len(durations):.1f} s each in the hooks")
    for failure in failures[:5]:
        print(f"  {failure}")
    figures = {
        "failed_requests": len(failures),
        "longest_wait_s": round(load.longest_s, 3),
        "swaps": len(durations),
        "requests": load.requests,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    sys.exit(main())
