"""Which release this process is."""

import json
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

# The folder that holds manage.py, by its real path: a pointer to a release may move while it runs.
HOME = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Release:
    """A release's identity; ``digest`` is the SHA-256 of its bundle, None outside of a deployed release."""

    digest: str | None
    version: str | None
    commit: str | None


@cache
def current_release() -> Release:
    """The release this process was started from, read once."""
    return read_release(HOME)


def read_release(home: Path) -> Release:
    """What release.json says; in a checkout, the project's version and the commit that is checked out.

    Raises ImproperlyConfigured for a release.json that does not say it.
    """
    path = home / "release.json"
    try:
        about = json.loads(path.read_text())
        return Release(str(about["digest"]), str(about["version"]), str(about["commit"]))
    except FileNotFoundError:
        return Release(None, _project_version(home), _git_commit(home / ".git"))
    except (ValueError, KeyError, TypeError) as error:
        raise ImproperlyConfigured(f"{path} does not say what release this is ({error!r}).") from None


def _project_version(home: Path) -> str | None:
    try:
        return str(tomllib.loads((home / "pyproject.toml").read_text())["project"]["version"])
    except (OSError, tomllib.TOMLDecodeError, KeyError):
        return None


def _git_commit(git: Path) -> str | None:
    """The commit HEAD names, read from git's files since starting git is slow; None where it is not plain."""
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            commit = head
        elif (reference := git / head.removeprefix("ref: ")).is_file():
            commit = reference.read_text().strip()
        else:
            lines = (git / "packed-refs").read_text().splitlines()
            name = head.removeprefix("ref: ")
            commit = next((line.split()[0] for line in lines if line.endswith(f" {name}")), "")
    except OSError:
        return None
    return commit if re.fullmatch(r"[0-9a-f]{40}", commit) else None
