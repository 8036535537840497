"""The environment of a service's processes, and its use in command lines (systemd.exec(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from .config import Command, ServiceConfig
from .names import Layout
from .process import Credentials
from .unit import UnitFailure

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
_NAME = re.compile(r"[A-Za-z_]\w*")
# A quote is one only where a value, or its next part, begins: what is bare goes on to the end.
_QUOTED = re.compile(
    r"""[ \t]*(?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|"""
    r"""(?P<bare>(?:[^'"\\]|\\.)(?:[^\\]|\\.)*))""",
    re.DOTALL,
)


def parse_environment_file(text: str) -> dict[str, str]:
    """Read NAME=value lines as EnvironmentFile= does; raises ValueError with the line's number."""
    found: dict[str, str] = {}
    pending, first = "", 0
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if not pending and line.lstrip()[:1] in {"", "#", ";"}:
            continue
        first = first if pending else number
        if re.search(r"(?<!\\)(\\\\)*\\$", line):
            pending += line[:-1]
            continue
        line, pending = pending + line, ""
        name, equals, value = line.strip(" \t").partition("=")
        if not equals or not _NAME.fullmatch(name.rstrip()):
            raise ValueError(f"line {first}: not NAME=value")
        found[name.rstrip()] = _unquote(value.strip(" \t"), first)
    return found


def _unquote(value: str, line: int) -> str:
    pieces: list[str] = []
    position = 0
    while position < len(value):
        match = _QUOTED.match(value, position)
        if match is None:
            raise ValueError(f"line {line}: a quote is never closed")
        if match["single"] is not None:
            pieces.append(match["single"])
        elif match["double"] is not None:
            pieces.append(re.sub(r'\\(["\\$`])', r"\1", match["double"]))
        else:
            pieces.append(re.sub(r"\\(.)", r"\1", match["bare"]))
        position = match.end()
    return "".join(pieces)


def service_environment(
    config: ServiceConfig, layout: Layout, inherited: Mapping[str, str], credentials: Credentials | None
) -> dict[str, str]:
    """What every process of the service gets, before the notify socket and the listening descriptors.

    Raises UnitFailure if an EnvironmentFile= is missing or wrong.
    """
    env = {"PATH": f"{layout.bin}:{SYSTEM_PATH}", "LANG": "C.UTF-8", **inherited}
    if credentials:
        env |= {
            "HOME": credentials.home,
            "USER": credentials.name,
            "LOGNAME": credentials.name,
            "SHELL": credentials.shell,
        }
    for directory in config.directories:
        known = env.get(directory.variable)
        env[directory.variable] = f"{known}:{directory.path}" if known else str(directory.path)
    env |= config.environment
    for path, optional in config.environment_files:
        env |= _environment_file(path, optional)
    return env


def _environment_file(path: Path, optional: bool) -> dict[str, str]:
    try:
        return parse_environment_file(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if optional:
            return {}
        raise UnitFailure("resources", f"Failed to load environment file {path}: it does not exist") from None
    except (OSError, ValueError) as error:
        raise UnitFailure("resources", f"Failed to load environment file {path}: {error}") from None


def expand(command: Command, env: Mapping[str, str]) -> tuple[str, ...]:
    """Put variables into a command line: `${NAME}` anywhere, a word `$NAME` split at spaces, `$$` for `$`."""
    if not command.expand:
        return command.argv
    words: list[str] = [command.argv[0]]
    for word in command.argv[1:]:
        if word.startswith("$") and _NAME.fullmatch(word[1:]):
            words += env.get(word[1:], "").split()
        else:
            words.append(
                re.sub(
                    r"\$(?:\$|\{([A-Za-z_]\w*)\})",
                    lambda match: env.get(match[1], "") if match[1] else "$",
                    word,
                )
            )
    return tuple(words)


def find_program(program: str, env: Mapping[str, str]) -> str:
    """The absolute path of a command's program; raises UnitFailure (status 203) if there is none."""
    if "/" in program:
        return program
    for folder in env.get("PATH", SYSTEM_PATH).split(":"):
        candidate = Path(folder) / program
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    raise UnitFailure("exit-code", f"Failed to locate executable {program} (status=203/EXEC)")
