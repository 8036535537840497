"""Small source trees and bundles to work on."""

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from apps.releases import manifest

FILES = {
    "appspec.yml": "version: 0.0\nos: linux\n",
    "manage.py": "#!/usr/bin/env python3\n",
    "requirements.txt": "django==5.2\n",
    "pyproject.toml": '[project]\nname = "web"\nversion = "1.2.3"\n',
    "backend/settings.py": "DEBUG = False\n",
    "apps/__init__.py": "",
    "apps/shop/migrations/__init__.py": "",
    "apps/shop/migrations/0001_initial.py": "",
    "apps/shop/migrations/0002_more.py": "",
    "apps/shop/migrations/helpers.py": "",
    "apps/sandbox/migrations/0001_initial.py": "",
    "apps/sandbox/server.py": "",
    "scripts/codedeploy/lib.sh": "",
    "scripts/codedeploy/before_install": "#!/bin/bash\n",
    "scripts/provision-host": "#!/bin/bash\n",
    "scripts/host_tools/flight.py": "",
    "scripts/demo": "",
    "infra/systemd/web.service": "[Unit]\n",
    "tests/test_shop.py": "",
    ".archive-commit": "$Format:%H %cI$\n",
    ".gitattributes": ".archive-commit export-subst\n",
    ".gitignore": "__pycache__\n",
}
EXECUTABLE = {"manage.py", "scripts/codedeploy/before_install", "scripts/provision-host"}


def git(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.org",
        "GIT_COMMITTER_DATE": "2026-01-02T03:04:05+01:00",
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


def make_tree(folder: Path) -> Path:
    """A small service with everything that ships and some of what does not."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name in EXECUTABLE else 0o644)
    return folder


def make_checkout(folder: Path) -> Path:
    """The tree as a git checkout with one commit."""
    make_tree(folder)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Begin")
    return folder


def make_wheelhouse(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("django-5.2-py3-none-any.whl", "asgiref-3-py3-none-any.whl"):
        (folder / name).write_bytes(name.encode())
    return folder


def document_of(files: dict[str, bytes], /, **fields: Any) -> dict[str, Any]:
    """A right manifest of these files."""
    lock = hashlib.sha256(files["requirements.txt"]).hexdigest() if "requirements.txt" in files else "0" * 64
    document = {
        "schema": 1,
        "service": "web",
        "version": "1.2.3+aaaaaaaaaaaa",
        "commit": "a" * 40,
        "committed_at": "2026-01-02T02:04:05Z",
        "python": manifest.this_python(),
        "lock": {"path": "requirements.txt", "sha256": lock},
        "migrations": [{"app": "shop", "name": "0001_initial"}],
        "files": {
            name: {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body), "mode": "0644"}
            for name, body in files.items()
        },
    }
    return document | fields


CONTENT = {"requirements.txt": b"django==5.2\n", "manage.py": b"#!/usr/bin/env python3\n"}


def tar_of(
    members: dict[str, bytes], *changed: tarfile.TarInfo, modes: dict[str, int] | None = None
) -> bytes:
    """A tar of plain files, and of other members as they are given."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(body), (modes or {}).get(name, 0o644)
            tar.addfile(member, io.BytesIO(body))
        for member in changed:
            tar.addfile(member, io.BytesIO(b"\0" * member.size))
    return content.getvalue()


def bundle_of(files: dict[str, bytes] | None = None, /, **fields: Any) -> bytes:
    """A bundle that is right, unless ``fields`` of its manifest say otherwise."""
    files = CONTENT if files is None else files
    return tar_of({**files, manifest.NAME: manifest.dump(document_of(files, **fields))})
