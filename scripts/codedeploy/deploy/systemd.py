"""The few things asked of systemd, through the first systemctl on PATH."""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.errors import START_LIMIT, Failure, cause_in
from deploy.process import last_words, run

# A little more than the units' own limits.
START_S = 70.0
STOP_S = 60.0


@dataclass(frozen=True)
class Units:
    """The instances that make up one running release."""

    digest: str

    @property
    def service(self) -> str:
        return f"lockkeeper@{self.digest}.service"

    @property
    def private_socket(self) -> str:
        return f"lockkeeper-private@{self.digest}.socket"

    @property
    def reconcile(self) -> str:
        return f"lockkeeper-reconcile@{self.digest}.service"

    @property
    def all(self) -> tuple[str, str, str]:
        # The sockets first: one that still listens would start its service again.
        return (self.private_socket, self.reconcile, self.service)


def start(unit: str) -> None:
    """Start a unit and wait until it says that it has; raise Failure when it does not."""
    run(["systemctl", "start", unit], timeout_s=START_S)


def replace_workers(unit: str) -> None:
    """Have gunicorn fork new workers and let the old ones finish; with --preload HUP loads nothing."""
    run(["systemctl", "kill", "--kill-whom=main", "--signal=HUP", unit], timeout_s=START_S)


def stop(units: Sequence[str], *, wait: bool = True) -> None:
    """Stop units and, unless told otherwise, wait until they have; raise Failure when systemd cannot."""
    run(["systemctl", "stop", *([] if wait else ["--no-block"]), *units], timeout_s=STOP_S)


def forget_failure(units: Sequence[str]) -> None:
    """Clear the failed state, where there is one."""
    # A unit that is not loaded any more has none: systemctl calls that an error, and goes on.
    run(["systemctl", "reset-failed", *units], timeout_s=START_S, check=False)


def loaded_digests() -> set[str]:
    """The releases of which any unit is running, starting, failed or stopping."""
    patterns = ["lockkeeper@*.service", "lockkeeper-private@*.socket", "lockkeeper-reconcile@*.service"]
    listing = run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", *patterns],
        timeout_s=START_S,
    )
    digests = set()
    for line in listing.stdout.splitlines():
        # A failed unit has a dot in front of its name.
        name = next((word for word in line.split() if "@" in word), None)
        if name is not None:
            digests.add(name.partition("@")[2].rpartition(".")[0])
    return digests


def properties(unit: str, *names: str) -> dict[str, str]:
    """What systemd says of a unit."""
    shown = run(["systemctl", "show", f"--property={','.join(names)}", unit], timeout_s=START_S)
    return dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)


def is_down(unit: str, process: str = "") -> bool:
    """Whether a service that was started has ended since, also when systemd is about to try again.

    So it has where its main process is another than ``process``, if one is named.
    """
    state = properties(unit, "ActiveState", "SubState", "MainPID")
    return (
        state.get("ActiveState") in {"failed", "inactive"}
        or state.get("SubState") == "auto-restart"
        or process not in ("", state.get("MainPID"))
    )


def main_pid(unit: str) -> str:
    """The main process of a service; "0" where there is none."""
    return properties(unit, "MainPID").get("MainPID", "0")


def log_tail(unit: str, lines: int = 25) -> list[str]:
    """The last lines a unit wrote, oldest first; empty where there is no journal to read."""
    try:
        journal = run(
            ["journalctl", "--unit", unit, "--lines", str(lines), "--no-pager", "--output", "cat"],
            timeout_s=30,
            check=False,
        )
    except Failure:
        return []
    return journal.stdout.splitlines() if journal.returncode == 0 else []


def failure_of(unit: str) -> Failure:
    """In one line, why a unit is not running: its own last words, else what systemd knows."""
    tail = log_tail(unit)
    state = properties(unit, "ActiveState", "SubState", "Result", "ExecMainStatus")
    known = ", ".join(f"{name}={value}" for name, value in state.items())
    said = "\n".join(tail)
    # What systemd knows comes first: the log may be of an earlier start.
    cause = cause_in(known) or cause_in(said)
    if cause == START_LIMIT:
        known = f"{known}: `systemctl reset-failed {unit}` and deploy again"
    return Failure(f"{last_words(said)} ({known})" if tail else known, cause)
