"""Collect a release's static files again and again, killed one file operation later each time.

    python -m tests.rollout.kill_collect FOLDER

prints one line of JSON for each kill. It forks, so that Django is imported once.
"""

import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

from django.conf import settings

HASHED = re.compile(r"(.+)\.([0-9a-f]{12})\.css")
# What Python tells of before it changes a file or a folder.
OPERATIONS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.copyfile", "open"}


def configure(folder: Path) -> None:
    settings.configure(
        INSTALLED_APPS=["django.contrib.staticfiles"],
        STATIC_URL="static/",
        STATIC_ROOT=str(folder / "static"),
        STATIC_MANIFEST_DIR="",
        STATICFILES_DIRS=[],
        STATICFILES_FINDERS=["django.contrib.staticfiles.finders.FileSystemFinder"],
        STORAGES={"staticfiles": {"BACKEND": "backend.static.ReleaseStaticFilesStorage"}},
    )
    import django

    django.setup()


def make_release(folder: Path, name: str, colour: str) -> None:
    source = folder / name / "source"
    source.mkdir(parents=True)
    # Long enough for a compressed copy to be worth it.
    (source / "site.css").write_text(f"body {{ color: {colour} }}\n" * 40)


def collect(folder: Path, name: str, *, kill_at: int = 0) -> bool:
    """In a process of its own; whether it came to its end."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    settings.STATICFILES_DIRS = [str(folder / name / "source")]
    settings.STATIC_MANIFEST_DIR = str(folder / name / ".static")
    left = kill_at

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = event != "open" or (isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE)
        if event in OPERATIONS and writes and str(folder) in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    from apps.rollout.static import collect_release

    if kill_at:
        sys.addaudithook(watch)
    collect_release()
    os._exit(0)


def manifest(folder: Path, name: str) -> dict[str, str]:
    path = folder / name / ".static/staticfiles.json"
    found: dict[str, str] = json.loads(path.read_text())["paths"] if path.exists() else {}
    return found


def own_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("new/.static/*"))


def tree(folder: Path) -> dict[str, str]:
    """Every file of the shared folder but those that are being made, with its content's hash."""
    return {
        path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for path in folder.glob("static/*")
        if not path.name.startswith(".new-")
    }


def problems(folder: Path, before: dict[str, str]) -> list[str]:
    """What a server of either release, or its visitors, could stumble over."""
    found = []
    for path in folder.glob("static/*"):
        hashed = HASHED.fullmatch(path.name.removesuffix(".gz"))
        if path.name.startswith(".new-") or not hashed:
            continue
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest()[:12] != hashed[2]:
            found.append(f"{path.name} has other content")
    for name in ("old", "new"):
        missing = [to for to in manifest(folder, name).values() if not (folder / "static" / to).is_file()]
        found += [f"the manifest of {name} names {each}, which is not there" for each in missing]
    # Names without a hash are the newest release's; those with one never change.
    changed = [
        name for name, content in before.items() if HASHED.match(name) and tree(folder).get(name) != content
    ]
    return found + [f"{name} of the old release has changed" for name in changed]


def main(folder: Path) -> None:
    configure(folder)
    make_release(folder, "old", "red")
    make_release(folder, "new", "blue")
    assert collect(folder, "old")
    shutil.copytree(folder / "static", folder / "as-it-was")
    before, old = tree(folder), manifest(folder, "old")
    assert collect(folder, "new")
    after, new, files = tree(folder), manifest(folder, "new"), own_files(folder)
    kill_at, ended = 0, False
    while not ended:
        kill_at += 1
        shutil.rmtree(folder / "static")
        shutil.rmtree(folder / "new/.static")
        shutil.copytree(folder / "as-it-was", folder / "static")
        ended = collect(folder, "new", kill_at=kill_at)
        found = problems(folder, before)
        if not collect(folder, "new") or (tree(folder), manifest(folder, "new")) != (after, new):
            found.append("the next run ended elsewhere")
        if manifest(folder, "old") != old or own_files(folder) != files:
            found.append("something is in the wrong place")
        sys.stdout.write(json.dumps({"killed_at": kill_at, "ended": ended, "problems": found}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
