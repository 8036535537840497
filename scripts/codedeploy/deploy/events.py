"""What each lifecycle event does. ApplicationStop and the BlockTraffic hooks do nothing and are not here.

An event imports what it alone needs, since every hook is a new process and should start fast.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from deploy import files, flight
from deploy.bundle import Bundle
from deploy.host import Host
from deploy.output import detail
from deploy.steps import step


def before_install(host: Host, bundle: Bundle, _environ: Mapping[str, str]) -> None:
    """Refuse what must not be installed here, before anything on the host changes."""
    from deploy import disk, environment, retention
    from deploy.platform_check import check_platform

    # The place of the signed permit for this digest and this environment: the host's own verifier will be
    # asked here. There is none yet, and nothing below stands in for it.
    with step("check-platform", "Python, ABI, machine and C library"):
        check_platform(bundle.manifest)
    with step("check-archive", "The archive against its manifest"):
        bundle.check_archive()
    discard_leftovers(host)
    with step("room", "Room on the disk"):
        exists = environment.is_complete(environment.environment_path(host, bundle))
        retention.check_room(host, bundle, disk.needed_bytes(bundle, environment_exists=exists))


def after_install(host: Host, bundle: Bundle, environ: Mapping[str, str]) -> None:
    """Make the environment and the release, then let the release check itself and migrate."""
    from deploy import configuration, environment, proved
    from deploy.prepare import prepare_release
    from deploy.release import release_folder

    here = host.release(bundle.digest).is_dir()
    configuration.ensure_configuration(host, bundle.digest, proved=proved.has_proved(host, bundle.digest))
    try:
        made = environment.ensure_environment(host, bundle)
        with release_folder(host, bundle, made) as folder:
            if here and proved.has_proved_alike(host, bundle.digest):
                # Its static files are kept with it, and should its database lack a migration it does not
                # say that it is ready, and takes over from nobody.
                detail("it has proved itself here with these settings, so it is prepared")
            else:
                prepare_release(host, folder, bundle.digest, environ)
    finally:
        # Half an environment on a disk that is full would keep it full.
        discard_leftovers(host)


def discard_leftovers(host: Host) -> None:
    """Remove what killed runs had begun to make."""
    from deploy import configuration

    with step("leftovers", "Leftovers of killed runs"):
        for folder in (host.home, host.releases, host.venvs, host.state, host.state / "outbox"):
            files.discard_leftovers(folder)
        for folder in (configuration.folder(host), host.state / "flight", *(host.state / "flight").glob("*")):
            files.discard_leftovers(folder)


def application_start(host: Host, bundle: Bundle, _environ: Mapping[str, str]) -> None:
    """Swap."""
    from deploy import swap

    swap.swap_to(host, bundle.digest)


def validate_service(host: Host, bundle: Bundle, _environ: Mapping[str, str]) -> None:
    """Prove it, or put the previous release back."""
    from deploy import retention, swap

    swap.validate(host, bundle.digest)
    retention.finish(host, bundle.digest)


def allow_traffic(host: Host, bundle: Bundle, _environ: Mapping[str, str]) -> None:
    """Warm up, on either side of AllowTraffic."""
    from deploy import swap

    swap.warm_up(host, bundle.digest)


EVENTS: dict[str, Callable[[Host, Bundle, Mapping[str, str]], None]] = {
    "BeforeInstall": before_install,
    "AfterInstall": after_install,
    "ApplicationStart": application_start,
    "ValidateService": validate_service,
    "BeforeAllowTraffic": allow_traffic,
    "AfterAllowTraffic": allow_traffic,
}


def run(event: str, *, root: Path, archive: Path, environ: Mapping[str, str]) -> None:
    """Do what ``event`` asks for, under the host's lock. Raises Failure."""
    with ExitStack() as lock:
        with step("check-deployment", f"{event}: this host and the bundle"):
            host = Host.read(root)
            host.check_laid_out()
            host.check_deployment(environ)
            # Before the lock is held: two deployments may write the note at once, and each is whole.
            bundle = Bundle.load(archive, environ, host.state)
            flight.note(digest=bundle.digest, version=bundle.manifest.version)
            detail(f"{bundle.manifest.service} {bundle.name}")
            lock.enter_context(host.locked())
        EVENTS[event](host, bundle, environ)
