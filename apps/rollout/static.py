"""Collect a release's static files beside those of the releases that still serve."""

import filecmp
import shutil
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.management.commands.collectstatic import Command as CollectStatic
from django.contrib.staticfiles.storage import ManifestFilesMixin
from django.core.files.storage import FileSystemStorage, storages
from django.core.management import call_command

from apps.errors import Invalid


def collect_release() -> int:
    """Bring this release's files into STATIC_ROOT and its manifest into STATIC_MANIFEST_DIR.

    Returns how many files were new or different.

    Not with ``collectstatic`` into STATIC_ROOT itself: where the release before left a newer file of the same
    name, that would keep it, and hash the wrong content; and it removes and rewrites files that are being
    served. Here files are made aside and renamed, and hashed names that exist are left alone.

    Raises Invalid when the settings have no hashed names.
    """
    root, manifest_folder = Path(settings.STATIC_ROOT), Path(settings.STATIC_MANIFEST_DIR)
    root.mkdir(parents=True, exist_ok=True)
    manifest_folder.mkdir(parents=True, exist_ok=True)
    # A run that was killed; there is only one at a time, under the host's lock.
    for leftover in manifest_folder.glob(".collect-*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=".collect-", dir=manifest_folder) as temporary:
        files, manifest = Path(temporary, "files"), Path(temporary, "manifest")
        backend: dict[str, Any] = settings.STORAGES["staticfiles"]
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
    return added


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
