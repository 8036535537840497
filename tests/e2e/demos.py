"""What the tests of scripts/demo share.

Each demo works in a clone of the commit that was HEAD at the start: a checkout that people work in meanwhile
has another HEAD every few minutes. What is not committed is therefore not tested here.
"""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Seconds for one whole demo with all scenarios. Only one that hangs should meet it: with another demo beside
# it and other work that had most of two processors it took 12 minutes, three builds included.
WITHIN = 20 * 60
CACHE = Path(os.environ.get("LOCKKEEPER_CACHE_DIR") or ROOT / ".local" / "cache").absolute()


def environment(**changes: str) -> dict[str, str]:
    """Ours without a database: the demo finds its own. Environments and downloads are the checkout's."""
    ours = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return ours | {"LOCKKEEPER_CACHE_DIR": str(CACHE)} | changes


def git(*arguments: str | Path, folder: Path = ROOT) -> str:
    command = ["git", "-c", "safe.directory=*", "-C", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def clone(commit: str, target: Path) -> Path:
    git("clone", "--quiet", "--no-checkout", ROOT, target)
    git("checkout", "--quiet", "--detach", commit, folder=target)
    return target


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that have something to do with a demo's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            place = os.readlink(entry / "cwd").encode()  # noqa: PTH115  # Path.readlink drops " (deleted)"
            settings = (entry / "environ").read_bytes()
        except OSError:
            continue
        if any(str(folder).encode() in text for text in (command, place, settings)):
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def run_to_the_end(*arguments: str, folder: Path, env: dict[str, str], **options: Any) -> str:
    """Run a demo that ends by itself, and well; return what it printed."""
    done = subprocess.run(
        ["scripts/demo", "--exit", *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def wait_for(process: subprocess.Popen, output: Path, sentence: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while sentence not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)
