"""The environment variables of a build: clean, but for what package clients need to reach their index.

Nothing else of the sandbox's own environment reaches a build. To hand caches or settings to builds, put them
into the project's environment variables, such as `{"name": "UV_CACHE_DIR", "value": "/var/cache/uv"}`.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from apps.sandbox.runtime import Runtime

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where packages come from, whom to trust, through which proxy.
_PASSED = re.compile(
    r"(PIP|UV)_.+|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(https?|no|all)_proxy", re.IGNORECASE
)
# Those would bend the build towards the sandbox's own environment, or are secrets.
_KEPT_BACK = re.compile(
    r"UV_PUBLISH_.*|UV_PROJECT.*|UV_PYTHON.*|UV_SYSTEM_PYTHON|UV_RUN_.*|PIP_(TARGET|PREFIX|ROOT|USER|PYTHON|REQUIRE_VIRTUALENV)"
)


def base_environment(inherited: Mapping[str, str], home: Path, temporary: Path) -> dict[str, str]:
    """Return what every build gets, whatever its project."""
    env = {
        name: value
        for name, value in inherited.items()
        if _PASSED.fullmatch(name) and not _KEPT_BACK.fullmatch(name)
    }
    # HOME is the build's own, so the user's package configuration has to be named.
    user_home = Path(inherited.get("HOME", "/"))
    for variable, places in {
        "PIP_CONFIG_FILE": (".config/pip/pip.conf", ".pip/pip.conf"),
        "UV_CONFIG_FILE": (".config/uv/uv.toml",),
    }.items():
        found = [user_home / place for place in places if (user_home / place).is_file()]
        if found:
            env.setdefault(variable, str(found[0]))
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host for host in env.get(name, "").split(",") if host]
        env[name] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
    return env | {
        "PATH": build_path(inherited.get("PATH", _SYSTEM_PATH)),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "USER": inherited.get("USER", "root" if os.geteuid() == 0 else "build"),
        "CI": "true",
        "CODEBUILD_CI": "true",
    }


def build_path(path: str) -> str:
    """Return PATH without the virtual environment the sandbox runs in, its own Python first.

    "Its own Python" is the interpreter below the virtual environment, in place of version managers' shims,
    which look for their files under HOME.
    """
    own = {Path(sys.prefix, "bin")} if sys.prefix != sys.base_prefix else set()
    base = Path(sys.base_prefix, "bin")
    folders = [folder for folder in path.split(os.pathsep) if folder and Path(folder) not in own]
    if str(base) not in _SYSTEM_PATH.split(":"):
        folders.insert(0, str(base))
    return os.pathsep.join(dict.fromkeys([*folders, *_SYSTEM_PATH.split(":")]))


def codebuild_variables(
    runtime: Runtime,
    *,
    build_id: str,
    arn: str,
    number: int,
    source_dir: Path,
    source_version: str | None,
    source_location: str,
    initiator: str,
    image: str,
    start_milliseconds: int,
) -> dict[str, str]:
    """Return the CODEBUILD_ variables and how to reach AWS.

    CODEBUILD_RESOLVED_SOURCE_VERSION is not set for a source in S3, as on AWS.
    https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html
    """
    variables = runtime.aws_environment() | {
        "CODEBUILD_BUILD_ID": build_id,
        "CODEBUILD_BUILD_ARN": arn,
        "CODEBUILD_BUILD_NUMBER": str(number),
        "CODEBUILD_BUILD_IMAGE": image,
        "CODEBUILD_BUILD_SUCCEEDING": "1",
        "CODEBUILD_INITIATOR": initiator,
        "CODEBUILD_LOG_PATH": build_id.partition(":")[2],
        "CODEBUILD_SOURCE_REPO_URL": source_location,
        "CODEBUILD_SRC_DIR": str(source_dir),
        "CODEBUILD_START_TIME": str(start_milliseconds),
    }
    if source_version:
        variables["CODEBUILD_SOURCE_VERSION"] = source_version
    return variables
