"""Does this host fit what the bundle was built for?"""

import platform
import re
import sys
import sysconfig

from deploy.bundle import File, Manifest
from deploy.errors import PLATFORM_MISMATCH, Failure

MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_")
# https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/#manylinux
LEGACY = {"manylinux1_": (2, 5), "manylinux2010_": (2, 12), "manylinux2014_": (2, 17)}


def host_python() -> dict[str, str]:
    """The running interpreter in the manifest's terms."""
    free_threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    major, minor = sys.version_info[:2]
    prefix = {"cpython": "cp", "pypy": "pp"}.get(sys.implementation.name, sys.implementation.name)
    return {
        "version": f"{major}.{minor}",
        "implementation": sys.implementation.name,
        "abi": f"{prefix}{major}{minor}{free_threaded}",
        "machine": platform.machine(),
        "libc": platform.libc_ver()[0] or "unknown",
    }


def needed_glibc(wheel: File) -> tuple[int, int]:
    """The oldest glibc a wheel runs on, from its name; (0, 0) when it needs none.

    A name may carry several platform tags, of which one is enough.
    """
    found = [(int(major), int(minor)) for major, minor in MANYLINUX.findall(wheel.path)]
    found += [version for tag, version in LEGACY.items() if tag in wheel.path]
    return min(found, default=(0, 0))


def check_platform(manifest: Manifest) -> None:
    """Raise Failure, naming each difference, when the bundle's environment cannot be built on this host."""
    host = host_python()
    problems = [
        f"{name} is {host[name]} here and {wanted} in the bundle"
        for name in host
        if (wanted := getattr(manifest.python, name)) != host[name]
    ]
    if manifest.python.libc == host["libc"] == "glibc":
        version = platform.libc_ver()[1]
        here = tuple(int(part) for part in version.split(".")[:2])
        problems += [
            f"{wheel.path} needs glibc {'.'.join(map(str, needed_glibc(wheel)))} and {version} is here"
            for wheel in manifest.wheels()
            if needed_glibc(wheel) > here
        ]
    if problems:
        raise Failure(
            f"The bundle was built for another platform: {'; '.join(problems[:4])}. "
            "Build it on an image like this host, or set PYTHON in etc/lockkeeper/host.",
            PLATFORM_MISMATCH,
        )
