"""Seconds per stage of scripts/demo: on a fresh clone, and for a second commit in the same clone."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CLONE = ROOT / ".local" / "bench" / "demo"
# A fresh machine has no caches, and finds its own database.
NOT_PASSED = {"UV_CACHE_DIR", "PIP_CACHE_DIR", "LOCKKEEPER_CACHE_DIR", "DATABASE_URL"}


def run(*command: str) -> float:
    """Run a command in the clone and return its seconds; end with its output when it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED}
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=CLONE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed in {CLONE}:\n{done.stdout}")
    return time.monotonic() - began


def read_result() -> dict[str, Any]:
    return json.loads((CLONE / ".local/demo/1/result.json").read_text())


def measure() -> dict[str, float]:
    """Run the demo once and return the seconds of each stage."""
    seconds = {"bootstrap": run("scripts/bootstrap")}
    began = time.monotonic()
    run("scripts/demo", "--exit", "--approve")
    whole = time.monotonic() - began
    result = read_result()
    seconds |= {stage["name"]: stage["seconds"] for stage in result["stages"]}
    # Starting Python, and taking everything down.
    seconds["start and end"] = whole - sum(stage["seconds"] for stage in result["stages"])
    seconds["total"] = seconds["bootstrap"] + whole
    return {name: round(value, 1) for name, value in seconds.items()}


def main() -> None:
    shutil.rmtree(CLONE, ignore_errors=True)
    CLONE.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, CLONE], check=True)
    first = measure()
    author = ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false")
    run("git", *author, "commit", "--quiet", "--allow-empty", "--no-verify", "--message", "Change nothing")
    second = measure()

    print(f"{'stage':<24}{'first':>10}{'second':>10}   seconds")
    for name in first:
        print(f"{name:<24}{first[name]:>10.1f}{second.get(name, 0.0):>10.1f}")
    (rolling,) = read_result()["rolling"]
    print(
        f"rolling deployment to production: {rolling['requests']} requests, {rolling['failed']} failed, "
        f"the longest took {rolling['longest_ms']:.0f} ms"
    )
    figures = {"first": first, "second": second, "failed_requests": rolling["failed"]}
    print(json.dumps({"bench": "demo", "cores": os.cpu_count(), **figures}))
    shutil.rmtree(CLONE, ignore_errors=True)


if __name__ == "__main__":
    main()
