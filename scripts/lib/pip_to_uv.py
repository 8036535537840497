"""Translate pip's index settings for uv, which does not read them.

Reads `pip config list` from standard input and writes NUL-terminated NAME=VALUE pairs, leaving alone every
variable that is set already. Standard library only: it runs before there is an environment.
"""

import ast
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

# pip's later sections win over earlier ones; :env: stands for PIP_* variables.
SECTIONS = ("global", "install", ":env:")
LINE = re.compile(r"(?P<section>global|install|:env:)\.(?P<name>[\w-]+)=(?P<value>.+)")


def read_settings(lines: Iterable[str]) -> dict[str, str]:
    """Return pip's effective settings by name, from what `pip config list` prints."""
    found: dict[tuple[int, str], str] = {}
    for line in lines:
        if match := LINE.fullmatch(line.strip()):
            name = match["name"].lstrip(".").replace("_", "-")
            found[SECTIONS.index(match["section"]), name] = str(ast.literal_eval(match["value"]))
    return {name: value for (_, name), value in sorted(found.items())}


def translate(settings: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of uv that say what pip's settings say, without those in `environ`."""
    wanted = {}
    if "index-url" in settings and "UV_INDEX_URL" not in environ:
        wanted["UV_DEFAULT_INDEX"] = settings["index-url"]
    if "extra-index-url" in settings and "UV_EXTRA_INDEX_URL" not in environ:
        wanted["UV_INDEX"] = " ".join(settings["extra-index-url"].split())
        # pip looks for a version in all indexes alike; uv by default only in the first that has the name.
        wanted["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "find-links" in settings:
        links = settings["find-links"].split()
        # pip passes over a folder that is not there, uv stops.
        wanted["UV_FIND_LINKS"] = ",".join(link for link in links if "://" in link or Path(link).is_dir())
    if settings.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        wanted["UV_NO_INDEX"] = "1"
    if "cert" in settings:
        wanted["SSL_CERT_FILE"] = settings["cert"]
    if "timeout" in settings or "default-timeout" in settings:
        wanted["UV_HTTP_TIMEOUT"] = settings.get("timeout") or settings["default-timeout"]
    if "trusted-host" in settings:
        wanted["UV_INSECURE_HOST"] = " ".join(settings["trusted-host"].split())
    return {name: value for name, value in wanted.items() if value and name not in environ}


def main() -> None:
    for name, value in translate(read_settings(sys.stdin), os.environ).items():
        sys.stdout.write(f"{name}={value}\0")


if __name__ == "__main__":
    main()
