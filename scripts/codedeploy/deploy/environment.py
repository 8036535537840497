"""The virtual environment of a release: built from the bundle's wheelhouse, shared by equal locks."""

import hashlib
import os
import re
import sys
import sysconfig
from pathlib import Path

from deploy import files
from deploy.bundle import Bundle, sha256
from deploy.errors import Failure, cause_in
from deploy.host import Host
from deploy.output import detail
from deploy.process import run
from deploy.redaction import redact
from deploy.steps import step

UV_WHEEL = re.compile(r"wheelhouse/uv-[0-9][^/-]*-[^/]+\.whl")
INSTALL_S = 420.0


def environment_key(lock_sha256: str) -> str:
    """The name of the environment for a lock and this interpreter (its path, version and ABI)."""
    interpreter = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    parts = [
        lock_sha256,
        str(interpreter),
        ".".join(map(str, sys.version_info[:3])),
        str(sysconfig.get_config_var("SOABI")),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def environment_path(host: Host, bundle: Bundle) -> Path:
    """Where the bundle's environment is, or will be."""
    return host.venvs / environment_key(bundle.manifest.lock_sha256)


def is_complete(environment: Path) -> bool:
    """A folder with the final name was finished; its interpreter may have been removed since."""
    return os.access(environment / "bin/python", os.X_OK)


def ensure_environment(host: Host, bundle: Bundle) -> Path:
    """Return the bundle's environment, building it first where it is not on the host yet.

    Raises Failure when a wheel is missing or is not what the lock says.
    """
    environment = environment_path(host, bundle)
    if is_complete(environment):
        with step("environment", f"Environment {environment.name}: already here"):
            return environment
    with step("environment", f"Environment {environment.name}: building from the wheelhouse"):
        _build(bundle, environment)
    return environment


def _build(bundle: Bundle, environment: Path) -> None:
    files.discard(environment)
    temporary = files.fresh(environment)
    uv = _extract_uv(bundle, temporary / "uv")
    # Nothing of this host's uv settings, indexes or caches may have a say.
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(temporary),
        "UV_CACHE_DIR": str(temporary / "cache"),
        "UV_NO_CONFIG": "1",
        "UV_OFFLINE": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    made = temporary / "environment"
    run(
        [str(uv), "venv", "--quiet", "--relocatable", "--no-project", "--python", sys.executable, str(made)],
        environ=environ,
        timeout_s=120,
    )
    lock = bundle.archive / bundle.manifest.lock_path
    if sha256(lock) != bundle.manifest.lock_sha256:
        raise Failure(
            f"{bundle.manifest.lock_path} is not the lock that the manifest names; build the bundle again."
        )
    done = run(
        [
            *(str(uv), "pip", "sync", "--quiet", "--python", str(made / "bin/python")),
            *("--require-hashes", "--no-index", "--no-build", "--compile-bytecode"),
            # To a cache that is this build's alone and goes with it: no two environments share a file.
            *("--link-mode", "hardlink"),
            *("--find-links", str(bundle.archive / "wheelhouse"), str(lock)),
        ],
        environ=environ,
        timeout_s=INSTALL_S,
        check=False,
    )
    if done.returncode:
        for line in done.stdout.splitlines():
            detail(line)
        raise Failure(
            f"The environment could not be built from the wheelhouse ({_reason(done.stdout)}); "
            "build the bundle again from its lock.",
            cause_in(done.stdout),
        )
    # uv's, which anybody on the host may write.
    (made / ".lock").unlink(missing_ok=True)
    files.discard(temporary / "cache")
    files.publish(made, environment)
    files.discard(temporary)


def _reason(output: str) -> str:
    """What uv says is wrong, without its hints, in one line."""
    return " ".join(redact(output).partition("hint:")[0].split())[:600]


def _extract_uv(bundle: Bundle, target: Path) -> Path:
    """Take the uv program out of its wheel, which is also one of the release's packages."""
    import zipfile  # see disk.py

    wheels = [file for path, file in bundle.manifest.files.items() if UV_WHEEL.fullmatch(path)]
    if len(wheels) != 1:
        raise Failure(
            f"The wheelhouse holds {len(wheels)} wheels of uv and the hooks need one: "
            "keep uv among the dependencies and build the bundle again."
        )
    wheel = bundle.archive / wheels[0].path
    if sha256(wheel) != wheels[0].sha256:
        raise Failure(f"{wheels[0].path} is not the file that the manifest names; deploy again.")
    with zipfile.ZipFile(wheel) as archive:
        member = next((name for name in archive.namelist() if name.endswith(".data/scripts/uv")), None)
        if member is None:
            raise Failure(f"{wheels[0].path} holds no uv program; build the bundle again.")
        target.write_bytes(archive.read(member))
    target.chmod(0o755)
    return target
