"""What a unit file means: typed settings of services and sockets, with systemd's defaults."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .directives import check_directives
from .names import Layout, UnitName, resolve_specifiers
from .unitfile import UnitError, UnitFile, read_unit, split_words

# systemd's own exit statuses, systemd.exec(5).
EXIT_CHDIR, EXIT_NAMESPACE, EXIT_EXEC = 200, 226, 203

_DIRECTORIES = {
    "RuntimeDirectory": "run",
    "StateDirectory": "var/lib",
    "CacheDirectory": "var/cache",
    "LogsDirectory": "var/log",
}


@dataclass(frozen=True)
class Command:
    """One command line of an Exec directive."""

    argv: tuple[str, ...]
    ignore_failure: bool
    expand: bool


@dataclass(frozen=True)
class Directory:
    """A directory that the supervisor makes before a service starts."""

    variable: str
    path: Path
    mode: int
    remove: bool


@dataclass(frozen=True)
class UnitConfig:
    """What every type of unit has."""

    file: UnitFile
    description: str
    after: tuple[str, ...]
    before: tuple[str, ...]
    requires: tuple[str, ...]
    wants: tuple[str, ...]
    part_of: tuple[str, ...]
    start_limit_interval: float
    start_limit_burst: int
    conditions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ServiceConfig(UnitConfig):
    """A [Service]."""

    type: str
    remain_after_exit: bool
    start_pre: tuple[Command, ...]
    start: tuple[Command, ...]
    start_post: tuple[Command, ...]
    stop: tuple[Command, ...]
    stop_post: tuple[Command, ...]
    restart: str
    restart_sec: float
    sockets: tuple[str, ...]
    notify_access: str
    kill_mode: str
    kill_signal: signal.Signals
    timeout_start: float
    timeout_stop: float
    success_status: frozenset[int]
    no_restart_status: frozenset[int]
    working_directory: tuple[Path, bool]
    user: str
    group: str
    supplementary: tuple[str, ...]
    umask: int
    environment: dict[str, str]
    environment_files: tuple[tuple[Path, bool], ...]
    directories: tuple[Directory, ...]
    needed_paths: tuple[Path, ...]
    stdout: str
    stderr: str
    limits: dict[str, str]


@dataclass(frozen=True)
class SocketConfig(UnitConfig):
    """A [Socket] that listens on streams and hands its descriptors to one service."""

    listen: tuple[str, ...]
    fd_name: str
    backlog: int
    service: str
    remove_on_stop: bool
    socket_mode: int
    directory_mode: int
    owner: tuple[str, str]
    no_delay: bool
    keep_alive: bool
    reuse_port: bool
    trigger_interval: float
    trigger_burst: int


def load_config(layout: Layout, name: UnitName) -> UnitConfig | None:
    """Read and check a unit; None if no file defines it.

    Raises UnitError for anything the sandbox would do differently from systemd.
    """
    unit = read_unit(layout, name)
    if unit is None:
        return None
    check_directives(unit)
    if name.suffix == "service":
        return _service(layout, unit)
    if name.suffix == "socket":
        return _socket(layout, unit)
    return UnitConfig(**_common(layout, unit))


def _common(layout: Layout, unit: UnitFile) -> dict[str, Any]:
    conditions = [
        (key, layout.map(value))
        for key in unit.sections.get("Unit", {})
        if key.startswith(("Condition", "Assert"))
        for value in unit.every("Unit", key)
    ]
    return {
        "file": unit,
        "description": unit.last("Unit", "Description", str(unit.name)),
        "after": tuple(unit.words("Unit", "After")),
        "before": tuple(unit.words("Unit", "Before")),
        "requires": tuple(unit.words("Unit", "Requires") + unit.words("Unit", "BindsTo")),
        "wants": tuple(unit.words("Unit", "Wants")),
        "part_of": tuple(unit.words("Unit", "PartOf")),
        "start_limit_interval": unit.span("Unit", "StartLimitIntervalSec", 10.0),
        "start_limit_burst": unit.integer("Unit", "StartLimitBurst", 5),
        "conditions": tuple(conditions),
    }


def _service(layout: Layout, unit: UnitFile) -> ServiceConfig:
    section = "Service"
    kind = unit.choice(section, "Type", ("simple", "exec", "notify", "oneshot"))
    start = _commands(layout, unit, "ExecStart")
    if not start:
        raise UnitError(f"{unit.fragment}: a service needs ExecStart=")
    if len(start) > 1 and kind != "oneshot":
        raise unit.fail(section, "ExecStart", "only Type=oneshot may have several")
    restart = unit.choice(
        section, "Restart", ("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort")
    )
    if kind == "oneshot" and restart in {"always", "on-success"}:
        raise unit.fail(section, "Restart", f"{restart} is not allowed for Type=oneshot")
    timeout = unit.span(section, "TimeoutSec", 90.0)
    given = "TimeoutSec" in unit.sections.get(section, {})
    start_default = float("inf") if kind == "oneshot" and not given else timeout
    sockets = tuple(unit.words(section, "Sockets"))
    common = _common(layout, unit)
    # Sockets= implies Wants= and After= on each (systemd.service(5)).
    common["wants"] = (*unit.words("Unit", "Wants"), *sockets)
    common["after"] = (*unit.words("Unit", "After"), *sockets)
    optional = unit.last(section, "WorkingDirectory").startswith("-")
    directory = unit.last(section, "WorkingDirectory", "/").removeprefix("-")
    if directory == "~":
        raise unit.fail(section, "WorkingDirectory", "~ is not supported by the sandbox")
    return ServiceConfig(
        **common,
        type=kind,
        remain_after_exit=unit.boolean(section, "RemainAfterExit", False),
        start_pre=_commands(layout, unit, "ExecStartPre"),
        start=start,
        start_post=_commands(layout, unit, "ExecStartPost"),
        stop=_commands(layout, unit, "ExecStop"),
        stop_post=_commands(layout, unit, "ExecStopPost"),
        restart=restart,
        restart_sec=unit.span(section, "RestartSec", 0.1),
        sockets=sockets,
        notify_access=unit.choice(section, "NotifyAccess", ("main", "all", "exec", "none")),
        kill_mode=unit.choice(section, "KillMode", ("control-group", "mixed", "process")),
        kill_signal=_signal(unit),
        timeout_start=_or_infinite(unit.span(section, "TimeoutStartSec", start_default)),
        timeout_stop=_or_infinite(unit.span(section, "TimeoutStopSec", timeout)),
        success_status=_statuses(unit, "SuccessExitStatus"),
        no_restart_status=_statuses(unit, "RestartPreventExitStatus"),
        working_directory=(Path(layout.map(directory)), optional),
        user=unit.last(section, "User"),
        group=unit.last(section, "Group"),
        supplementary=tuple(unit.words(section, "SupplementaryGroups")),
        umask=unit.integer(section, "UMask", 0o022, 8),
        environment=_environment(layout, unit),
        environment_files=tuple(
            (Path(layout.map(value.removeprefix("-"))), value.startswith("-"))
            for value in unit.every(section, "EnvironmentFile")
        ),
        directories=_directories(layout, unit),
        needed_paths=tuple(
            Path(layout.map(word.removeprefix("+")))
            for word in unit.words(section, "ReadWritePaths")
            if not word.startswith("-")
        ),
        stdout=_output(layout, unit, "StandardOutput"),
        stderr=_output(layout, unit, "StandardError"),
        limits={
            key: unit.last(section, key) for key in ("LimitNOFILE", "LimitCORE") if unit.last(section, key)
        },
    )


def _socket(layout: Layout, unit: UnitFile) -> SocketConfig:
    section = "Socket"
    listen = tuple(layout.map(value) for value in unit.every(section, "ListenStream"))
    if not listen:
        raise UnitError(f"{unit.fragment}: a socket needs ListenStream=")
    if unit.boolean(section, "Accept", False):
        raise unit.fail(
            section, "Accept", "the sandbox supports no only: one service takes the listening socket"
        )
    for address in listen:
        if not re.fullmatch(r"/.*|\d+|.+:\d+", address):
            raise unit.fail(section, "ListenStream", f"{address!r} is not a path, a port or address:port")
    stem = str(unit.name).rpartition(".")[0]
    service = unit.last(section, "Service", f"{stem}.service")
    common = _common(layout, unit)
    # A socket comes before the service it activates (systemd.socket(5)).
    common["before"] = (*unit.words("Unit", "Before"), service)
    return SocketConfig(
        **common,
        listen=listen,
        fd_name=unit.last(section, "FileDescriptorName", str(unit.name)),
        backlog=unit.integer(section, "Backlog", 4096),
        service=service,
        remove_on_stop=unit.boolean(section, "RemoveOnStop", False),
        socket_mode=unit.integer(section, "SocketMode", 0o666, 8),
        directory_mode=unit.integer(section, "DirectoryMode", 0o755, 8),
        owner=(unit.last(section, "SocketUser"), unit.last(section, "SocketGroup")),
        no_delay=unit.boolean(section, "NoDelay", False),
        keep_alive=unit.boolean(section, "KeepAlive", False),
        reuse_port=unit.boolean(section, "ReusePort", False),
        trigger_interval=unit.span(section, "TriggerLimitIntervalSec", 2.0),
        trigger_burst=unit.integer(section, "TriggerLimitBurst", 20),
    )


def _commands(layout: Layout, unit: UnitFile, key: str) -> tuple[Command, ...]:
    commands: list[Command] = []
    for line in unit.raw("Service", key):
        try:
            words = split_words(line)
            group: list[str] = []
            for word in [*words, ";"]:
                if word != ";":
                    group.append(";" if word == "\\;" else layout.map(resolve_specifiers(word, unit.name)))
                elif group:
                    commands.append(_command(group))
                    group = []
        except ValueError as error:
            raise unit.fail("Service", key, str(error)) from None
    return tuple(commands)


def _command(words: list[str]) -> Command:
    prefix = re.match(r"[-@:+!|]*", words[0])
    flags = prefix.group() if prefix else ""
    if "@" in flags or "|" in flags:
        raise ValueError(f"the prefix {flags!r} is not supported by the sandbox")
    program = words[0][len(flags) :]
    if not program:
        raise ValueError("names no program")
    return Command((program, *words[1:]), "-" in flags, ":" not in flags)


def _environment(layout: Layout, unit: UnitFile) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in unit.every("Service", "Environment"):
        try:
            words = split_words(line)
        except ValueError as error:
            raise unit.fail("Service", "Environment", str(error)) from None
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise unit.fail("Service", "Environment", f"{word!r} is not NAME=value")
            found[key] = layout.map(value)
    return found


def _directories(layout: Layout, unit: UnitFile) -> tuple[Directory, ...]:
    found = []
    for key, place in _DIRECTORIES.items():
        mode = unit.integer("Service", f"{key}Mode", 0o755, 8)
        kept = key != "RuntimeDirectory" or unit.choice(
            "Service", "RuntimeDirectoryPreserve", ("no", "yes", "restart")
        ) in {"yes"}
        for word in unit.words("Service", key):
            if word.startswith("/") or ".." in word or ":" in word:
                raise unit.fail("Service", key, f"{word!r} must be a relative path")
            variable = re.sub(r"(?<!^)(?=D)", "_", key).upper()
            found.append(Directory(variable, layout.root / place / word, mode, not kept))
    return tuple(found)


def _output(layout: Layout, unit: UnitFile, key: str) -> str:
    """`journal`, `inherit`, `null`, or a path to append to with a leading `append:` or `truncate:`."""
    value = unit.last("Service", key, "journal" if key == "StandardOutput" else "inherit")
    if value in {"journal", "inherit", "null"}:
        return value
    if re.match(r"(append|truncate):/", value):
        return layout.map(value)
    raise unit.fail("Service", key, f"{value!r} is not supported by the sandbox")


def _signal(unit: UnitFile) -> signal.Signals:
    name = unit.last("Service", "KillSignal", "SIGTERM")
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        raise unit.fail("Service", "KillSignal", f"{name!r} is not a signal") from None


def _statuses(unit: UnitFile, key: str) -> frozenset[int]:
    """Exit codes as they are and signals as negative numbers."""
    found = set()
    for word in unit.words("Service", key):
        if word.isdigit():
            found.add(int(word))
        elif word in signal.Signals.__members__:
            found.add(-signal.Signals[word])
        else:
            raise unit.fail("Service", key, f"{word!r} is neither an exit status nor a signal")
    return frozenset(found)


def _or_infinite(seconds: float) -> float:
    # In Timeout directives 0 means no timeout.
    return seconds or float("inf")
