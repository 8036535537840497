"""Is there room for a deployment?"""

import os
from pathlib import Path

from deploy.bundle import Bundle
from deploy.errors import FREE_SPACE, NO_SPACE, Failure
from deploy.output import detail

MIB = 1 << 20
# Bytecode is about as large as its source, and uv keeps unpacked wheels until it is done.
UNPACKED_FACTOR = 2.5
# For PostgreSQL's answers, logs and everything else that lives on the same disk.
RESERVE = 100 * MIB


def needed_bytes(bundle: Bundle, *, environment_exists: bool) -> int:
    """What Install, the release and, unless it is there, the environment will take."""
    total = sum(file.size for file in bundle.manifest.files.values())
    total += 2 * sum(file.size for file in bundle.manifest.release_files())
    if not environment_exists:
        unpacked = sum(_unpacked(bundle.archive / wheel.path) for wheel in bundle.manifest.wheels())
        total += int(unpacked * UNPACKED_FACTOR)
    return total + RESERVE


def check_room(folder: Path, needed: int) -> None:
    """Raise Failure when ``folder``'s disk has less than ``needed`` bytes free."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    detail(f"{needed // MIB} MiB needed, {free // MIB} MiB free")
    if free < needed:
        raise Failure(
            f"{folder} has {free // MIB} MiB free and this release needs {needed // MIB}: {FREE_SPACE}.",
            NO_SPACE,
        )


def _unpacked(wheel: Path) -> int:
    import zipfile  # not needed where the environment is there already, and hooks should start fast

    try:
        with zipfile.ZipFile(wheel) as archive:
            return sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise Failure(f"{wheel.name} is not a wheel ({error}); build the bundle again.") from None
