"""scripts/demo of the commit as it is, all its tests included, by a user who has nothing but a clone."""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.demos import CACHE, clone, processes_of, run_to_the_end

pytestmark = pytest.mark.e2e

# Whom root becomes for it.
ORDINARY_USER = "nobody"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others can enter; pytest keeps its own closed."""
    folder = Path(tempfile.mkdtemp(prefix="lockkeeper-e2e-"))
    folder.chmod(0o755)
    yield folder
    # Tens of thousands of files, for which shutil.rmtree takes minutes on a busy machine.
    subprocess.run(["rm", "-rf", folder], check=True)


def test_an_ordinary_user_runs_it_from_a_clone(commit, open_folder):
    theirs = clone(commit, open_folder / "clone")
    # Downloads that are there already; whatever is made from them is made anew.
    for name in ("uv", "pip"):
        if (CACHE / name).is_dir():
            shutil.copytree(CACHE / name, theirs / ".local" / "cache" / name, symlinks=True)
    home = open_folder / "home"
    home.mkdir()
    kept = re.compile(r"(PIP|UV)_\w+|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|\w+_proxy|LANG", re.IGNORECASE)
    settings = {name: value for name, value in os.environ.items() if kept.fullmatch(name)}
    settings |= {"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": "/tmp"}
    become: dict[str, Any] = {}
    if python := open_python():
        user = pwd.getpwnam(ORDINARY_USER)
        subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", theirs, home], check=True)
        settings |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHON": python}
        become = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    told = run_to_the_end("--approve", folder=theirs, env=settings, **become)
    assert "serves in staging and production" in told
    assert processes_of(theirs) == []
    if not become:
        pytest.skip("it went well, but as who runs the tests: no root, or no Python that others could run")
    owners = {path.lstat().st_uid for path in (theirs / ".local" / "demo").rglob("*")}
    assert owners == {become["user"]}


def open_python() -> str | None:
    """The Python of whom root becomes, to whom root's own may be closed. None where we stay who we are."""
    if os.geteuid() != 0:
        return None
    return next(filter(can_make_environments, ("/usr/bin/python3", "/usr/bin/python3.11")), None)


def can_make_environments(python: str) -> bool:
    code = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    return (
        Path(python).exists()
        and subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    )
