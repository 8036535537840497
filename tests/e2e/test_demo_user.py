"""scripts/demo as an ordinary user runs it, who is not root and has nothing but a clone."""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.demos import CACHE, clone, processes_of, run_to_the_end

pytestmark = pytest.mark.e2e

ORDINARY_USER = "nobody"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others can enter; pytest keeps its own closed."""
    folder = Path(tempfile.mkdtemp(prefix="lockkeeper-e2e-"))
    folder.chmod(0o755)
    yield folder
    # Tens of thousands of files, for which shutil.rmtree takes minutes on a busy machine.
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_an_ordinary_user_runs_it_from_a_clone(commit, open_folder):
    python = next(
        (path for path in ("/usr/bin/python3", "/usr/bin/python3.11") if can_make_environments(path)), None
    )
    if python is None:
        pytest.skip("the system has no Python 3.11 with venv that an ordinary user could run")
    user = pwd.getpwnam(ORDINARY_USER)
    theirs = clone(commit, open_folder / "clone")
    # Downloads that are there already; whatever is made from them is made anew.
    for name in ("uv", "pip"):
        if (CACHE / name).is_dir():
            shutil.copytree(CACHE / name, theirs / ".local" / "cache" / name, symlinks=True)
    subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", theirs], check=True)
    home = open_folder / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    kept = re.compile(r"(PIP|UV)_\w+|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|\w+_proxy|LANG", re.IGNORECASE)
    settings = {name: value for name, value in os.environ.items() if kept.fullmatch(name)}
    told = run_to_the_end(
        "--approve",
        folder=theirs,
        env=settings
        | {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHON": python, "TMPDIR": "/tmp"},
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
    )
    assert "serves in staging and production" in told
    assert processes_of(theirs) == []
    owners = {path.lstat().st_uid for path in (theirs / ".local" / "demo").rglob("*")}
    assert owners == {user.pw_uid}


def can_make_environments(python: str) -> bool:
    code = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    return (
        Path(python).exists()
        and subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    )
