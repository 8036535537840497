"""scripts/bootstrap and scripts/wheelhouse in a folder of their own, with small locks."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
REAL_CACHE = Path(os.environ.get("LOCKKEEPER_CACHE_DIR") or ROOT / ".local" / "cache")


def locked(*names: str) -> str:
    """The entries of requirements.txt for `names`, with their hashes."""
    entries = []
    keep = False
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if not line.startswith((" ", "#")):
            keep = line.split("==")[0] in names
        if keep:
            entries.append(line)
    return "\n".join(entries) + "\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing but the scripts, a runtime of two packages and no development tools."""
    shutil.copytree(
        ROOT / "scripts" / "lib", tmp_path / "scripts" / "lib", ignore=shutil.ignore_patterns("__*")
    )
    for name in ("bootstrap", "wheelhouse"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    (tmp_path / "requirements.txt").write_text(locked("six", "uv"))
    (tmp_path / "requirements-dev.txt").write_text(locked("sqlparse"))
    # uv itself takes seconds to install and is tested by everything else here.
    for uv in REAL_CACHE.glob("uv-*"):
        shutil.copytree(uv, tmp_path / ".local" / "cache" / uv.name, symlinks=True)
    return tmp_path


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment without what would lead a checkout elsewhere."""
    changed = {**os.environ, "LOCKKEEPER_CACHE_DIR": None, "PYTHON": None, **changes}
    return {key: value for key, value in changed.items() if value is not None}


def run(checkout: Path, name: str = "bootstrap", **changes: str | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts" / name],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def packages(checkout: Path) -> set[str]:
    return {
        path.name.split("-")[0]
        for path in (checkout / ".venv").glob("lib/python3*/site-packages/*.dist-info")
    }


def leftovers(checkout: Path) -> list[Path]:
    return list((checkout / ".local" / "cache").glob(".building.*"))


def test_it_makes_the_environment_once_and_then_without_a_network(checkout):
    first = run(checkout)
    assert first.returncode == 0, first.stderr
    assert packages(checkout) == {"six", "sqlparse", "uv"}
    target = (checkout / ".venv").resolve()
    second = run(checkout, PIP_INDEX_URL="http://127.0.0.1:1/", UV_DEFAULT_INDEX="http://127.0.0.1:1/")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert (checkout / ".venv").resolve() == target
    assert leftovers(checkout) == []


def test_a_changed_lock_makes_another_and_going_back_reuses_the_first(checkout):
    assert run(checkout).returncode == 0
    first = (checkout / ".venv").resolve()
    (checkout / "requirements-dev.txt").write_text(locked("asgiref"))
    assert run(checkout).returncode == 0
    assert packages(checkout) == {"six", "asgiref", "uv"}
    (checkout / "requirements-dev.txt").write_text(locked("sqlparse"))
    assert run(checkout).stderr == ""
    assert (checkout / ".venv").resolve() == first


def test_a_tampered_lock_installs_nothing(checkout):
    lock = checkout / "requirements-dev.txt"
    lock.write_text(lock.read_text().replace("sha256:", "sha256:0000"))
    done = run(checkout)
    assert done.returncode == 1
    assert "could not install the locked packages" in done.stderr
    assert not (checkout / ".venv").exists()
    assert leftovers(checkout) == []


def test_an_unreachable_index_is_said(checkout):
    done = run(
        checkout,
        PIP_INDEX_URL="http://127.0.0.1:1/simple",
        PIP_CONFIG_FILE="/dev/null",
        UV_HTTP_RETRIES="0",
        UV_CACHE_DIR=str(checkout / "empty"),
        UV_DEFAULT_INDEX=None,
        UV_INDEX_URL=None,
    )
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr  # pip's setting has reached uv
    assert "could not install the locked packages" in done.stderr


def test_several_at_once_make_one(checkout):
    running = [
        subprocess.Popen(
            [checkout / "scripts" / "bootstrap"], env=environment(), stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert packages(checkout) == {"six", "sqlparse", "uv"}
    assert leftovers(checkout) == []
    assert len(list((checkout / ".local" / "cache" / "venvs").iterdir())) == 1


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_killed_halfway_it_leaves_no_half_environment(checkout, signum):
    process = subprocess.Popen(
        [checkout / "scripts" / "bootstrap"], env=environment(), stderr=subprocess.DEVNULL, process_group=0
    )
    deadline = time.monotonic() + 60
    while not leftovers(checkout) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert leftovers(checkout), "it was too fast to be caught"
    os.killpg(process.pid, signum)
    process.wait(20)
    assert not (checkout / ".venv").exists()
    assert not list((checkout / ".local" / "cache").glob("venvs/*"))
    assert run(checkout).returncode == 0
    assert packages(checkout) == {"six", "sqlparse", "uv"}


def test_an_environment_that_was_there_is_moved_aside(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine").touch()
    done = run(checkout)
    assert done.returncode == 0
    (moved,) = (checkout / ".local" / "cache" / "venvs").glob("replaced.*")
    assert (moved / "mine").exists()
    assert str(moved) in done.stderr


def test_everything_that_is_missing_is_named_with_its_package(checkout, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "basename", "cat", "env", "rm"):
        (tools / name).symlink_to(shutil.which(name))
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tools / "python3").chmod(0o755)
    done = run(checkout, PATH=str(tools))
    assert done.returncode == 1
    assert "git; package: git" in done.stderr
    assert "openssl; package: openssl" in done.stderr
    assert "Python 3.11 or later; packages: python3 and python3-venv (Debian), python3.11" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_python_without_venv_is_named(checkout, tmp_path):
    fake = tmp_path / "python-without-venv"
    fake.write_text(f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    fake.chmod(0o755)
    done = run(checkout, PYTHON=str(fake))
    assert done.returncode == 1
    assert f"the modules venv and ensurepip of {fake}; package: python3-venv (Debian)" in done.stderr


def test_a_wrong_choice_of_python_is_said(checkout):
    done = run(checkout, PYTHON="/no/such/python")
    assert done.returncode == 1
    assert "(PYTHON is /no/such/python)" in done.stderr


def test_wheels_are_gathered_once_and_checked(checkout):
    first = run(checkout, "wheelhouse")
    assert first.returncode == 0, first.stderr
    folder = Path(first.stdout.strip())
    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == ["six", "uv"]
    second = run(checkout, "wheelhouse", PIP_INDEX_URL="http://127.0.0.1:1/")
    assert second.stdout == first.stdout
    lock = checkout / "requirements.txt"
    lock.write_text(
        lock.read_text().replace("six==", "six==0.0.0.post1+missing ; python_version < '3' # ", 1)
    )
    assert run(checkout, "wheelhouse").returncode == 1
