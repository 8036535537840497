"""A release on the host: the bundle's files under its digest, immutable, complete or absent."""

import contextlib
import hashlib
import importlib.util
import json
import py_compile
import shutil
from collections.abc import Iterator
from pathlib import Path

from deploy import files
from deploy.bundle import Bundle, File, sha256
from deploy.errors import Failure
from deploy.host import Host
from deploy.pointers import Pointers
from deploy.process import meanwhile
from deploy.steps import step

RELEASE = "release.json"
# How this interpreter's bytecode begins where its source's time does not count (PEP 552).
UNCHECKED = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")


@contextlib.contextmanager
def release_folder(host: Host, bundle: Bundle, environment: Path) -> Iterator[Path]:
    """Give the bundle's release folder, making it from what CodeDeploy installed where it is absent.

    One that was made gets its name only when what is done inside has succeeded and all of it is on the disk.

    Raises Failure when a file is not what the manifest says, also in a release that is there already.
    """
    release = host.release(bundle.digest)
    link = f"../../venvs/{environment.name}"
    if release.is_dir():
        with step("release", f"Release {bundle.name}: already here"):
            _check_unchanged(release, bundle)
            if not (release / ".venv").is_symlink() or str((release / ".venv").readlink()) != link:
                # The environment it was made with is gone, or belongs to an interpreter that was replaced.
                files.point(release / ".venv", link)
        yield release
        return
    with step("release", f"Release {bundle.name}: copying"):
        temporary = _make(host, bundle, release, link)
    # There is more to flush than this folder, first of all what Install wrote; what is done inside need not
    # wait for it.
    with meanwhile(files.flush(temporary), timeout_s=files.FLUSH_S) as wait_for_flush:
        yield temporary
        with step("publish", f"Release {bundle.name}: to the disk, and its name"):
            wait_for_flush()
            files.publish(temporary, release)


def _make(host: Host, bundle: Bundle, release: Path, link: str) -> Path:
    temporary = files.fresh(release)
    for file in bundle.manifest.release_files():
        _copy(file, host.incoming, temporary)
    (temporary / "manifest.json").write_bytes(bundle.manifest.raw)
    about = {"digest": bundle.digest, "version": bundle.manifest.version, "commit": bundle.manifest.commit}
    (temporary / RELEASE).write_text(json.dumps(about, indent=2) + "\n")
    (temporary / ".venv").symlink_to(link)
    _compile(host, bundle, temporary)
    return temporary


def _compile(host: Host, bundle: Bundle, folder: Path) -> None:
    """Make the bytecode, since the service cannot write here; what did not change has it already.

    It depends on nothing but the file's name and content: on import Python puts the file's real path in, so
    that tracebacks name it.
    """
    current = Pointers(host).current
    serving = host.release(current) if current else None
    same = _same_files(serving, bundle) if serving else set()
    for file in bundle.manifest.release_files():
        if not file.path.endswith(".py"):
            continue
        compiled = importlib.util.cache_from_source(file.path)
        (folder / compiled).parent.mkdir(exist_ok=True)
        if serving and file.path in same and _is_bytecode(serving / compiled):
            shutil.copyfile(serving / compiled, folder / compiled)
            continue
        with contextlib.suppress(py_compile.PyCompileError):  # it may be nobody's to import
            py_compile.compile(
                str(folder / file.path),
                cfile=str(folder / compiled),
                dfile=file.path,
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )


def _same_files(serving: Path, bundle: Bundle) -> set[str]:
    """The files that the serving release's manifest lists with the same content."""
    try:
        listed = json.loads((serving / "manifest.json").read_bytes())["files"]
        return {
            file.path
            for file in bundle.manifest.release_files()
            if listed[file.path]["sha256"] == file.sha256
        }
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # nothing is taken over from a release that does not say what it is


def _is_bytecode(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(UNCHECKED)) == UNCHECKED
    except OSError:
        return False


def _copy(file: File, source: Path, target: Path) -> None:
    path = source / file.path
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
        raise Failure(
            f"{path} is not what the manifest says, though CodeDeploy has just installed it: "
            "something else writes there. Deploy again."
        )
    copy = target / file.path
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(content)
    copy.chmod(0o755 if file.mode & 0o100 else 0o644)


def _check_unchanged(release: Path, bundle: Bundle) -> None:
    for file in bundle.manifest.release_files():
        path = release / file.path
        if not path.is_file() or sha256(path) != file.sha256:
            raise Failure(
                f"{path} was changed or removed on this host, so this is not the release that was approved. "
                f"While another release serves, move {release} away and deploy again."
            )
