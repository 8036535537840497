"""Move the service from one release to another with no request dropped, under the host's lock.

The public socket belongs to systemd and outlives releases. The new one is started beside the old one and
proves itself on a socket of its own; only then it accepts at the front door (host_tools/front_door.py), and
the old one is told to finish.
"""

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import proved, systemd
from deploy.errors import Failure, Interrupted, failure_of
from deploy.host import Host
from deploy.output import detail, warn
from deploy.pointers import Pointers, Unproved
from deploy.steps import step
from deploy.systemd import Units

if TYPE_CHECKING:
    from deploy.health import Door

TIMES_IN_A_ROW = 5
# A release that has never proved itself here must have been up for so long before anybody meets it: some
# answer first and die a moment later.
STEADY_S = 1.5


def swap_to(host: Host, digest: str) -> None:
    """Make ``digest`` the serving release, or raise Failure with the other one serving as before.

    Killed at any point, running it again ends in the same state: everything but ``digest`` is stopped by
    what systemd has loaded and not by what the pointers say.
    """
    pointers = Pointers(host)
    if pointers.current not in (None, digest):
        detail(f"{pointers.current} serves now")
    try:
        _start_and_prove(host, digest)
        with step("point", f"Pointing at {digest[:12]}"):
            pointers.move_to(digest)
            systemd.replace_workers(Units(digest).service)
    except (Failure, OSError) as error:
        failure = error if isinstance(error, Failure) else failure_of(error)
        unproved = pointers.unproved
        if pointers.current != digest:
            _put_away(digest)
            serving = pointers.current
            rest = (
                f"Release {serving[:12]} still serves." if serving else "No release has served here before."
            )
        elif unproved is not None and unproved.digest == digest:
            rest = _put_back(host, pointers, unproved)
        else:
            rest = "It is the current release, so it is being tried further."
        reason = f"Release {digest[:12]} did not start: {str(failure).rstrip('.')}."
        raise Failure(f"{reason} {rest}", failure.cause) from None
    _tell_others(digest)
    detail(f"{digest} serves")


def _start_and_prove(host: Host, digest: str) -> None:
    """Start a release and wait until it says on its private socket that it is this one and ready."""
    units = Units(digest)
    with step("start", f"Starting {digest[:12]} beside what serves"):
        try:
            systemd.start(units.service)
        except Interrupted:
            raise
        except Failure as failure:
            _show_log(units.service)
            raise systemd.failure_of(units.service) from failure

    # With --preload it is up when its code has been loaded, however long that took.
    up = time.monotonic()
    proven = proved.has_proved(host, digest)
    # One that is new here and starts again while it is watched has died, even if it answers.
    process = "" if proven else systemd.main_pid(units.service)

    def ended() -> Failure | None:
        if systemd.is_down(units.service, process):
            return systemd.failure_of(units.service)
        return None

    with step("prove", f"Asking {digest[:12]} on its private socket"):
        try:
            _door(host, private=host.private_socket(digest)).wait_for(
                digest, times=1, within_s=host.prove_s, give_up=ended
            )
            systemd.start(units.reconcile)
            if not proven:
                time.sleep(max(0.0, up + STEADY_S - time.monotonic()))
                if failure := ended():
                    raise failure
        except Failure:
            _show_log(units.service)
            raise
        detail("answers on its private socket, ready")


def _put_away(digest: str) -> None:
    """Stop a release that did not prove itself; Restart=always would try for ever."""
    units = Units(digest)
    with step("put-back", f"Putting {digest[:12]} away"):
        with contextlib.suppress(Failure):  # the reason it did not start is the one to tell
            systemd.stop(units.all)
        systemd.forget_failure(units.all)


def _tell_others(digest: str) -> None:
    """Tell every release but ``digest`` to finish its requests and end; ValidateService waits for that."""
    with step("stop-others", "Telling other releases to finish"):
        if units := _other_units(digest):
            systemd.stop(units, wait=False)


def stop_others(digest: str | None) -> None:
    """Stop every release but ``digest``, letting requests under way finish, and wait until they have."""
    with step("stop-others", "Stopping other releases"):
        if units := _other_units(digest):
            systemd.stop(units)
            systemd.forget_failure(units)


def _other_units(digest: str | None) -> list[str]:
    units: list[str] = []
    for other in sorted(systemd.loaded_digests() - {digest}):
        detail(f"{other} finishes its requests and ends")
        units += Units(other).all
    return units


def validate(host: Host, digest: str) -> None:
    """Confirm that the front door answers with this release.

    Otherwise put the one before it back and raise Failure.
    """
    pointers = Pointers(host)
    url = host.settings["PUBLIC_URL"]
    unit = Units(digest).service
    if pointers.current == digest:
        stop_others(digest)
    try:
        with step("front-door", f"Asking {url}"):
            if pointers.current != digest:
                raise Failure(f"current is {str(pointers.current)[:12]}")
            _door(host).wait_for(digest, times=TIMES_IN_A_ROW, within_s=host.prove_s)
            unit = Units(digest).reconcile
            if systemd.is_down(unit):
                down = systemd.failure_of(unit)
                raise Failure(f"its reconciler does not stay up: {down}", down.cause)
            pointers.confirm()
            detail(f"{TIMES_IN_A_ROW} answers in a row from {digest}, ready")
            return
    except Failure as failure:
        _show_log(unit)
        reason = f"Release {digest[:12]} did not prove itself at {url}: {str(failure).rstrip('.')}."
        cause = failure.cause
    unproved = pointers.unproved
    if unproved is None or unproved.digest != digest:
        raise Failure(f"{reason} It had been confirmed before, so nothing was put back.", cause)
    raise Failure(f"{reason} {_put_back(host, pointers, unproved)}", cause)


def _put_back(host: Host, pointers: Pointers, unproved: Unproved) -> str:
    """Undo an unconfirmed swap and say what serves now; raise Failure when the one before fails too."""
    if unproved.current is None:
        pointers.put_back(unproved)
        stop_others(None)
        return "There is no release to put back, so nothing serves on this host."
    with step("put-back", f"Putting {unproved.current[:12]} back"):
        try:
            _start_and_prove(host, unproved.current)
        except Failure as failure:
            raise Failure(
                f"Release {unproved.current[:12]}, which was to be put back, fails too: {failure}"
            ) from None
        pointers.put_back(unproved)
        systemd.replace_workers(Units(unproved.current).service)
    stop_others(unproved.current)
    return f"Release {unproved.current[:12]} serves again."


def warm_up(host: Host, digest: str) -> None:
    """Have every worker open its database connection before the load balancer sends requests."""
    with step("warm-up", "Warming up"):
        _door(host).wait_for(digest, times=2 * TIMES_IN_A_ROW, within_s=host.prove_s)


def _door(host: Host, private: Path | None = None) -> "Door":
    # Only when there is somebody to ask: what speaks HTTP takes a while to load.
    from deploy.health import Door

    return Door(host.settings["PUBLIC_URL"], private)


def _show_log(unit: str) -> None:
    for line in systemd.log_tail(unit):
        warn(line)
