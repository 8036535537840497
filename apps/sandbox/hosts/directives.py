"""Which directives the sandbox's supervisor obeys, which it may ignore, and that all others are refused.

A directive that would change what runs must not be skipped in silence: a unit that works here is expected to
work under systemd. Hardening and resource control change what a process *may* do, so they are accepted and
ignored; they are proved on hosts with a real systemd.
"""

from __future__ import annotations

import re

from .unitfile import UnitError, UnitFile

_UNIT = """
    Description Documentation After Before Requires Wants BindsTo PartOf StartLimitIntervalSec StartLimitBurst
    ConditionPathExists ConditionPathIsDirectory ConditionFileNotEmpty AssertPathExists AssertPathIsDirectory
"""
_SERVICE = """
    Type RemainAfterExit ExecStartPre ExecStart ExecStartPost ExecStop ExecStopPost Restart RestartSec Sockets
    NotifyAccess KillMode KillSignal TimeoutStartSec TimeoutStopSec TimeoutSec SuccessExitStatus
    RestartPreventExitStatus WorkingDirectory User Group SupplementaryGroups UMask Environment EnvironmentFile
    RuntimeDirectory RuntimeDirectoryMode RuntimeDirectoryPreserve StateDirectory StateDirectoryMode
    LogsDirectory LogsDirectoryMode CacheDirectory CacheDirectoryMode ReadWritePaths StandardInput
    StandardOutput StandardError LimitNOFILE LimitCORE
"""
_SOCKET = """
    ListenStream FileDescriptorName Backlog Service Accept RemoveOnStop SocketMode DirectoryMode SocketUser
    SocketGroup NoDelay KeepAlive ReusePort TriggerLimitIntervalSec TriggerLimitBurst
"""
_INSTALL = "WantedBy RequiredBy Also DefaultInstance"

_OBEYED = {
    "Unit": frozenset(_UNIT.split()),
    "Service": frozenset(_SERVICE.split()),
    "Socket": frozenset(_SOCKET.split()),
    "Install": frozenset(_INSTALL.split()),
}
_HARDENING = re.compile(
    r"(Protect|Private|Restrict|SystemCall|Capability|Ambient|MemoryDeny|NoNewPrivileges|LockPersonality"
    r"|RemoveIPC|ReadOnlyPaths|InaccessiblePaths|ExecPaths|NoExecPaths|TemporaryFileSystem|Device(Allow|Policy)"
    r"|IPAddress|KeyringMode|ProcSubset|SecureBits|UtmpMode|SocketBind|Personality$)"
)
_RESOURCES = re.compile(
    r"(Memory|CPU|IO|Tasks|Limit|OOM|Nice|Slice|Delegate$|Coredump|TimerSlack|Syslog|Log(Level|Rate)|TTY)"
)
_HARMLESS = {
    "Unit": re.compile(r"(CollectMode|DefaultDependencies|X-.*)$"),
    "Service": re.compile(_HARDENING.pattern + "|" + _RESOURCES.pattern + "|X-"),
    # FreeBind lets a host bind before it has its network; a sandbox's host always has its own.
    "Socket": re.compile(_RESOURCES.pattern + "|FreeBind$|X-"),
    "Install": re.compile(r"X-"),
}


def check_directives(unit: UnitFile) -> None:
    """Raises UnitError for the first directive whose effect the sandbox does not have."""
    own = {"service": "Service", "socket": "Socket"}.get(unit.name.suffix)
    if own is None and unit.name.suffix != "target":
        raise UnitError(f"{unit.fragment}: the sandbox has no .{unit.name.suffix} units")
    for section, keys in unit.sections.items():
        if section not in {"Unit", "Install", own} and not section.startswith("X-"):
            raise UnitError(f"{unit.fragment}: [{section}] does not belong into a .{unit.name.suffix}")
        for key, values in keys.items():
            if section.startswith("X-") or not values or key in _OBEYED[section]:
                continue
            if not _HARMLESS[section].match(key):
                raise unit.fail(section, key, "not supported by the sandbox's supervisor")
