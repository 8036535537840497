"""Collect a release's static files beside those of the releases that still serve."""

import filecmp
import json
import shutil
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.management.commands.collectstatic import Command as CollectStatic
from django.contrib.staticfiles.storage import ManifestFilesMixin
from django.core.files.storage import FileSystemStorage, storages
from django.core.management import call_command

from apps.errors import Invalid

MANIFEST = "staticfiles.json"
# Beside the manifest: what it was made from, and the content of each file it led to.
COLLECTED = "collected.json"


def collect_release() -> int:
    """Bring this release's files into STATIC_ROOT and its manifest into STATIC_MANIFEST_DIR.

    Returns how many files were new or different.

    Not with ``collectstatic`` into STATIC_ROOT itself: where the release before left a newer file of the same
    name, that would keep it, and hash the wrong content; and it removes and rewrites files that are being
    served. Here files are made aside and renamed, and hashed names that exist are left alone.

    Hashing and compressing takes seconds. So where this release, or one beside it, was made from the very
    same files, its manifest is taken over, once every file in STATIC_ROOT has been seen to be what it was.

    Raises Invalid when the settings have no hashed names.
    """
    root, manifest_folder = Path(settings.STATIC_ROOT), Path(settings.STATIC_MANIFEST_DIR)
    root.mkdir(parents=True, exist_ok=True)
    manifest_folder.mkdir(parents=True, exist_ok=True)
    # A run that was killed; there is only one at a time, under the host's lock.
    for leftover in manifest_folder.glob(".collect-*"):
        shutil.rmtree(leftover)
    backend: dict[str, Any] = settings.STORAGES["staticfiles"]
    inputs = _inputs(backend)
    if _take_over(inputs, root, manifest_folder):
        return 0
    with tempfile.TemporaryDirectory(prefix=".collect-", dir=manifest_folder) as temporary:
        files, manifest = Path(temporary, "files"), Path(temporary, "manifest")
        options = {**backend.get("OPTIONS", {}), "location": str(files)}
        storage: Any = storages.create_storage({**backend, "OPTIONS": options})
        if not isinstance(storage, ManifestFilesMixin):
            raise Invalid(
                "These settings give static files no hashed names: leave STATIC_FROM_SOURCE and DEBUG unset."
            )
        storage.manifest_storage = FileSystemStorage(location=str(manifest))
        command = CollectStatic()
        command.storage = storage
        call_command(command, interactive=False, verbosity=0, skip_checks=True)
        made = [path for path in files.rglob("*") if path.is_file()]
        added = sum(_publish(path, root / path.relative_to(files)) for path in made)
        # Last: a manifest only ever names files that are there.
        _publish(manifest / storage.manifest_name, manifest_folder / storage.manifest_name)
        known = {"inputs": inputs, "files": {str(path.relative_to(files)): _digest(path) for path in made}}
        (manifest / COLLECTED).write_text(json.dumps(known))
        _publish(manifest / COLLECTED, manifest_folder / COLLECTED)
    return added


def _inputs(backend: dict[str, Any]) -> str:
    """A hash of all that collected files and their names come from."""
    hashed = sha256()
    made_by = [repr(backend), settings.STATIC_URL, *(version(name) for name in ("django", "whitenoise"))]
    for part in made_by:
        hashed.update(f"{len(part)}:{part}".encode())
    # In the finders' order: of two files with one name the first wins.
    for finder in get_finders():
        for path, storage in finder.list(None):
            name = str(Path(getattr(storage, "prefix", None) or "", path))
            hashed.update(f"{len(name)}:{name}".encode())
            hashed.update(bytes.fromhex(_digest(Path(storage.path(path)))))
    return hashed.hexdigest()


def _take_over(inputs: str, root: Path, manifest_folder: Path) -> bool:
    """Use a manifest made from the same files, its own or a neighbour's, if all that it names is there."""
    for collected in _collected(manifest_folder):
        try:
            known = json.loads(collected.read_text())
            if known["inputs"] != inputs:
                continue
            if any(_digest(root / name) != digest for name, digest in known["files"].items()):
                continue
            for name in (MANIFEST, COLLECTED):
                _publish(collected.with_name(name), manifest_folder / name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # half removed, or of another version: it is made anew
        return True
    return False


def _collected(manifest_folder: Path) -> Iterator[Path]:
    yield manifest_folder / COLLECTED
    releases = manifest_folder.parents[1]
    yield from sorted(releases.glob(f"*/{manifest_folder.name}/{COLLECTED}"))


def _digest(path: Path) -> str:
    # Processors have instructions for this one.
    return sha256(path.read_bytes()).hexdigest()


def _publish(source: Path, target: Path) -> bool:
    """Put a file in its place in one step, unless the same is there; whether it was put."""
    if target.is_file() and filecmp.cmp(source, target, shallow=False):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".new-{target.name}")
    shutil.copyfile(source, aside)
    aside.chmod(0o644)
    aside.replace(target)
    return True
