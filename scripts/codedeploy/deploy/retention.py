"""What stays on a host: releases by count and age, and what they need; the rest goes.

Only under the host's lock. Everything is worked out anew from what is on the disk, and a folder is renamed
before it is emptied, so that a run that was killed is carried on by the next one.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deploy import configuration, disk, environment, files, proved, systemd
from deploy.bundle import Bundle
from deploy.errors import Failure, Interrupted
from deploy.host import Host
from deploy.output import detail, warn
from deploy.pointers import Pointers
from deploy.steps import step

DAY_S = 86400
DIGEST = re.compile(r"[0-9a-f]{64}")
ENVIRONMENT = re.compile(r"[0-9a-f]{32}")
DEFAULTS = {"KEEP_RELEASES": 5, "KEEP_DAYS": 14}


def finish(host: Host, digest: str) -> None:
    """Remember that a release has just proved itself, and remove what has had its time.

    The deployment has succeeded by now, so what goes wrong here is said and fails nothing.
    """
    try:
        with step("retention", "What has had its time"):
            proved.remember(host, digest)
            # The one before served until now.
            if previous := Pointers(host).previous:
                proved.note_use(host, previous)
            _Sweep(host, ignore_age=False).run()
    except (Failure, OSError) as error:
        warn(
            f"Not everything old could be removed: {str(error).rstrip('.')}. The next deployment tries again."
        )


def check_room(host: Host, bundle: Bundle, needed: int) -> None:
    """Raise Failure when ``needed`` bytes are not free, even without what only its age keeps."""
    try:
        disk.check_room(host.home, needed)
    except Interrupted:
        raise
    except Failure:
        detail("making room: only their age keeps some releases here")
        sweep = _Sweep(host, ignore_age=True, wanted=bundle.digest)
        sweep.wanted_environment = environment.environment_path(host, bundle).name
        if not sweep.run():
            raise
        disk.check_room(host.home, needed)


@dataclass
class _Sweep:
    """One look at everything that can go."""

    host: Host
    ignore_age: bool
    wanted: str = ""
    wanted_environment: str = ""
    removed: int = field(default=0, init=False)

    def run(self) -> int:
        """Remove what may go; return how many things went. What cannot be removed is said, and stays."""
        releases = self._releases()
        kept = self._kept(releases)
        for release in releases:
            if release.name not in kept:
                self._remove(release, f"release {release.name[:12]}")
        # Those that could not be removed too.
        remaining = {release.name for release in self._releases()}
        self._environments(remaining)
        self._of_no_release(remaining)
        self._records()
        self._static(remaining)
        if not self.removed:
            detail("nothing to remove")
        return self.removed

    def _releases(self) -> list[Path]:
        """The releases on this host, the one used last first."""
        found = [path for path in _folders(self.host.releases) if DIGEST.fullmatch(path.name)]
        return sorted(found, key=lambda path: (proved.last_used(self.host, path), path.name), reverse=True)

    def _kept(self, releases: list[Path]) -> set[str]:
        pointers = Pointers(self.host)
        unproved = pointers.unproved
        kept = {pointers.current, pointers.previous, self.wanted}
        if unproved is not None:
            kept |= {unproved.digest, unproved.current, unproved.previous}
        kept |= {path.name for path in releases[: _number(self.host, "KEEP_RELEASES")]}
        if not self.ignore_age:
            kept |= {path.name for path in releases if proved.last_used(self.host, path) > self._horizon()}
        if any(path.name not in kept for path in releases):
            # Whatever the pointers say, nothing that runs.
            kept |= systemd.loaded_digests()
        return {name for name in kept if name}

    def _environments(self, remaining: set[str]) -> None:
        needed = {self.wanted_environment}
        needed |= {_link_target(self.host.release(name) / ".venv") for name in remaining}
        for path in _folders(self.host.venvs):
            if ENVIRONMENT.fullmatch(path.name) and path.name not in needed:
                self._remove(path, f"environment {path.name[:12]}")

    def _of_no_release(self, remaining: set[str]) -> None:
        for folder in (configuration.folder(self.host), proved.folder(self.host)):
            for path in _files(folder):
                if DIGEST.fullmatch(path.name) and path.name not in remaining | {self.wanted}:
                    self._remove(path)

    def _records(self) -> None:
        """Flight records by count and age as well; never this deployment's, which is the newest."""
        found = sorted(_folders(self.host.state / "flight"), key=_changed, reverse=True)
        for path in found[max(1, _number(self.host, "KEEP_RELEASES")) :]:
            if self.ignore_age or _changed(path) < self._horizon():
                self._remove(path)
        for path in _files(self.host.state / "outbox"):
            if _changed(path) < self._horizon():
                self._remove(path, f"{path.name}, which never came to S3")

    def _static(self, remaining: set[str]) -> None:
        """Static files that no release names. An old page may still ask for one, so age always counts."""
        manifests = [self.host.release(name) / ".static/staticfiles.json" for name in remaining]
        current = Pointers(self.host).current
        if not current or not (self.host.release(current) / ".static/staticfiles.json").is_file():
            return
        named: set[str] = set()
        for manifest in manifests:
            if manifest.is_file():
                named |= _names(manifest)
        old = [path for path in _tree(self.host.static) if _changed(path) < self._horizon()]
        for path in old:
            name = str(path.relative_to(self.host.static))
            if name not in named and name.removesuffix(".gz").removesuffix(".br") not in named:
                self._remove(path)

    def _horizon(self) -> float:
        return time.time() - _number(self.host, "KEEP_DAYS") * DAY_S

    def _remove(self, path: Path, name: str = "") -> None:
        """Remove one thing; a folder gets a name first that marks it as on its way out."""
        try:
            if path.is_dir() and not path.is_symlink():
                leaving = path.with_name(f"{files.TEMPORARY}{path.name}")
                files.discard(leaving)
                path.rename(leaving)
                files.discard(leaving)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            warn(f"{path} cannot be removed: {error.strerror or error}")
            return
        self.removed += 1
        if name:
            detail(f"removed {name}")


def _number(host: Host, name: str) -> int:
    value = host.settings.get(name) or str(DEFAULTS[name])
    if not value.isdecimal():
        raise Failure(f"{name}={value} in {host.root / 'etc/lockkeeper/host'} is not a number.")
    return int(value)


def _changed(path: Path) -> float:
    return path.lstat().st_mtime


def _names(manifest: Path) -> set[str]:
    """Every file that a release's manifest names, by both its names."""
    try:
        paths = json.loads(manifest.read_text())["paths"]
        return {*paths, *paths.values()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure(f"{manifest} cannot be read, so no static file was removed") from None


def _link_target(link: Path) -> str:
    return link.readlink().name if link.is_symlink() else ""


def _folders(parent: Path) -> list[Path]:
    return [path for path in _children(parent) if path.is_dir() and not path.is_symlink()]


def _files(parent: Path) -> list[Path]:
    return [path for path in _children(parent) if path.is_file() and not path.is_symlink()]


def _children(parent: Path) -> list[Path]:
    """What is in a folder, but for what runs under way have there."""
    if not parent.is_dir():
        return []
    return [path for path in parent.iterdir() if not path.name.startswith(".")]


def _tree(parent: Path) -> Iterator[Path]:
    return (path for path in parent.rglob("*") if path.is_file() and not path.is_symlink())
