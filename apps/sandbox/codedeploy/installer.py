"""The Install event: remove what the previous deployment installed, then copy and set permissions.

Like the agent it plans everything first, and writes down what it makes in a cleanup file from which the next
deployment removes it. Destinations are below the host's root.

The agent does not write each line at once but in blocks of 8 KiB, as Ruby's files do. Killed in the middle it
leaves files on the host that no cleanup file names: under DISALLOW every further deployment then fails.
"""

from __future__ import annotations

import grp
import os
import posixpath
import pwd
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path

from apps.specs.appspec import AppSpec
from apps.specs.permissions import Permission

from .hooks import Aborted

_BUFFER = 8192


class InstallError(Exception):
    """Install fails; the message is what the target's diagnostics show."""


@dataclass
class _Plan:
    steps: list[tuple[str, Path, Path | None]] = field(default_factory=list)
    copies: dict[Path, Path] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    permissions: dict[Path, Permission] = field(default_factory=dict)


class Installer:
    """Installs the revisions of one deployment group on one host."""

    def __init__(self, root: Path, instructions: Path, group_id: str, alive: Callable[[], bool]) -> None:
        """instructions is the agent's deployment-instructions folder, which outlives deployments.

        alive says whether the host is still up.
        """
        self.root = root
        self._alive = alive
        self._cleanup = instructions / f"{group_id}-cleanup"

    def install(self, archive: Path, appspec: AppSpec, behavior: str) -> None:
        """Install the files of an unpacked revision. Raises InstallError, and Aborted if the host went down.

        behavior is the deployment's fileExistsBehavior; the appspec's own file_exists_behavior wins.
        """
        try:
            self._remove_previous()
            plan = self._plan(archive, appspec, appspec.file_exists_behavior or behavior)
            self._carry_out(plan)
        except OSError as error:
            raise InstallError(f"{error.strerror} - {error.filename}") from None

    def _remove_previous(self) -> None:
        if not self._cleanup.exists():
            return
        text = self._cleanup.read_text(encoding="utf-8", errors="surrogateescape")
        # A line without its end was being written when the agent was killed.
        lines = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
        for line in reversed(lines):
            path = Path(line)
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        self._cleanup.unlink()

    def _host_path(self, destination: str) -> Path:
        # A relative destination lands in the agent's working directory, which is /.
        return self.root / posixpath.normpath("/" + destination).lstrip("/")

    def _plan(self, archive: Path, appspec: AppSpec, behavior: str) -> _Plan:
        plan = _Plan()
        for mapping in appspec.files:
            source = Path(f"{archive}/{mapping.source}")
            destination = self._host_path(mapping.destination)
            if source.is_dir():
                self._plan_ancestors(plan, destination)
                self._plan_folder(plan, source, destination, behavior)
            else:
                self._plan_ancestors(plan, destination / source.name)
                self._plan_copy(plan, source, destination / source.name, behavior)
        for permission in appspec.permissions:
            self._plan_permission(plan, permission)
        return plan

    def _plan_ancestors(self, plan: _Plan, path: Path) -> None:
        missing = []
        parent = path.parent
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        for folder in reversed(missing):
            self._plan_mkdir(plan, folder)

    def _plan_mkdir(self, plan: _Plan, folder: Path) -> None:
        if folder in plan.copies:
            raise InstallError(
                "The deployment failed because the application specification file includes an mkdir command "
                f"more than once for the same destination path ({folder}) from ({plan.copies[folder]}). "
                "Update the files section of the AppSpec file, and then try again."
            )
        if folder not in plan.folders:
            plan.folders.append(folder)
            plan.steps.append(("mkdir", folder, None))

    def _plan_folder(self, plan: _Plan, source: Path, destination: Path, behavior: str) -> None:
        if not destination.is_dir():
            self._plan_mkdir(plan, destination)
        for entry in sorted(source.iterdir()):
            # A link to a folder becomes a full copy of it; a link to a file stays a link.
            if entry.is_dir():
                self._plan_folder(plan, entry, destination / entry.name, behavior)
            else:
                self._plan_copy(plan, entry, destination / entry.name, behavior)

    def _plan_copy(self, plan: _Plan, source: Path, destination: Path, behavior: str) -> None:
        if destination.exists() and behavior == "DISALLOW":
            raise InstallError(
                "The deployment failed because a specified file already exists at this location: "
                f"{destination}"
            )
        if destination.exists() and behavior == "RETAIN":
            return
        if destination in plan.copies or destination in plan.folders:
            raise InstallError(
                "The deployment failed because the application specification file specifies two source files "
                f"named {source} and {plan.copies.get(destination, destination)} for the same destination "
                f"({destination}). Remove one of the source file paths from the AppSpec file, and then try "
                "again."
            )
        plan.copies[destination] = source
        plan.steps.append(("copy", destination, source))

    def _plan_permission(self, plan: _Plan, permission: Permission) -> None:
        if permission.unsupported:
            raise InstallError(
                f"The sandbox does not support {', '.join(permission.unsupported)} in permissions."
            )
        target = self._host_path(permission.object)
        if target in plan.copies:
            if "file" not in permission.types:
                return
            if permission.pattern != "**" or permission.except_:
                raise InstallError(
                    "The deployment failed because the application specification file includes an object "
                    f"({permission.object}) with an invalid pattern ({permission.pattern}), such as a "
                    "pattern for a file applied to a directory. Correct the permissions section of the "
                    "AppSpec file, and then try again."
                )
            self._set_permission(plan, target, permission)
        elif target in plan.folders or target.is_dir():
            # Only what this Install makes is touched, whatever else lies there.
            candidates = [*plan.copies] if "file" in permission.types else []
            candidates += plan.folders if "directory" in permission.types else []
            for path in candidates:
                if (
                    path != target
                    and path.is_relative_to(target)
                    and _matches(path.relative_to(target), permission)
                ):
                    self._set_permission(plan, path, permission)

    @staticmethod
    def _set_permission(plan: _Plan, path: Path, permission: Permission) -> None:
        if path in plan.permissions:
            raise InstallError(
                f"The deployment failed because the permissions setting for ({path}) is specified more than "
                "once in the application specification file. Update the files section of the AppSpec file, "
                "and then try again."
            )
        plan.permissions[path] = permission

    def _carry_out(self, plan: _Plan) -> None:
        self._cleanup.parent.mkdir(parents=True, exist_ok=True)
        with self._cleanup.open("wb", buffering=0) as cleanup:
            lines = b""
            try:
                for kind, destination, source in plan.steps:
                    if not self._alive():
                        raise Aborted
                    if kind == "mkdir":
                        destination.mkdir()
                    lines += os.fsencode(destination) + b"\n"
                    while len(lines) >= _BUFFER:
                        cleanup.write(lines[:_BUFFER])
                        lines = lines[_BUFFER:]
                    if source is not None:
                        _copy(source, destination)
            except OSError:
                cleanup.write(lines)  # an agent that fails closes its file
                raise
            cleanup.write(lines)
        for path, permission in plan.permissions.items():
            if permission.mode is not None:
                path.chmod(permission.mode)
            _chown(path, permission)


def _matches(relative: Path, permission: Permission) -> bool:
    """`**` is everything below; any other pattern has only `*`, and reaches direct children only."""

    def glob(pattern: str) -> bool:
        plain = re.sub(r"[\[?]", lambda match: f"[{match.group()}]", pattern)
        return len(relative.parts) == 1 and re.fullmatch(translate(plain), relative.name) is not None

    wanted = permission.pattern == "**" or glob(permission.pattern)
    return wanted and not any(glob(pattern) for pattern in permission.except_)


def _copy(source: Path, destination: Path) -> None:
    if destination.is_symlink() or destination.is_file():
        destination.unlink()
    if source.is_symlink():
        destination.symlink_to(source.readlink())
    else:
        shutil.copy2(source, destination)


def _chown(path: Path, permission: Permission) -> None:
    # A sandbox host has no accounts of its own: a user that the machine does not have is no error here.
    if os.geteuid() != 0:
        return
    try:
        uid = pwd.getpwnam(permission.owner).pw_uid if permission.owner else -1
        gid = grp.getgrnam(permission.group).gr_gid if permission.group else -1
    except KeyError:
        return
    os.chown(path, uid, gid)
