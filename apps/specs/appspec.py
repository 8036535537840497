"""appspec.yml as CodeDeploy's agent reads it: what it refuses, and what it makes of the rest.

This is the one definition of what the agent accepts. Findings stand in the order in which the agent would
come upon them; it stops at the first. Their words are the agent's own where it has some; where it ends in an
error of Ruby, ours say what is wrong. What it accepts and does not do as it reads is in appspec_advice.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .document import (
    Document,
    DocumentError,
    Mapping,
    Node,
    Scalar,
    Sequence,
    is_null,
    key_text,
    load,
    plain,
    walk,
)
from .findings import Finding, Findings, Place, closest, quoted
from .permissions import Permission, read_permissions
from .ruby import is_empty, is_nothing, number_of, read_items, ruby, text_of

LIFECYCLE_EVENTS = (
    "BeforeBlockTraffic", "BlockTraffic", "AfterBlockTraffic", "ApplicationStop", "DownloadBundle",
    "BeforeInstall", "Install", "AfterInstall", "ApplicationStart", "ValidateService",
    "BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic",
)  # fmt: skip
DEFAULT_TIMEOUT = 3600
FILE_EXISTS_BEHAVIORS = ("DISALLOW", "OVERWRITE", "RETAIN")
# Keys that people write in place of location.
_INSTEAD_OF_LOCATION = ("run", "command", "commands", "script", "scripts", "path", "file", "source")


class AppSpecError(Exception):
    """The agent would fail the deployment with this appspec."""


@dataclass(frozen=True)
class Script:
    """One script of a hook."""

    location: str
    timeout: int
    runas: str | None
    sudo: bool


@dataclass(frozen=True)
class FileMapping:
    """One item of `files`: a file or folder of the bundle, and the folder it goes to."""

    source: str
    destination: str


@dataclass(frozen=True)
class AppSpec:
    """What the agent will do with a bundle."""

    os: str
    hooks: dict[str, tuple[Script, ...]]
    files: tuple[FileMapping, ...]
    permissions: tuple[Permission, ...]
    file_exists_behavior: str | None

    def unknown_events(self) -> list[str]:
        """Events with scripts that do not exist; the agent notices only at Install."""
        return sorted(
            event for event, scripts in self.hooks.items() if scripts and event not in LIFECYCLE_EVENTS
        )


def parse_appspec(text: str) -> AppSpec:
    """Read the content of an appspec.yml. Raises AppSpecError with the agent's first complaint."""
    try:
        document = load(text)
    except DocumentError as error:
        raise AppSpecError(f"The AppSpec file cannot be loaded: {_sentence(error.finding)}") from None
    spec, findings = read_appspec(document)
    if spec is None:
        first = findings.errors[0]
        raise AppSpecError(first.words or _sentence(first))
    return spec


def _sentence(finding: Finding) -> str:
    return f"{finding.message} (line {finding.line})"


def read_appspec(document: Document) -> tuple[AppSpec | None, Findings]:
    """What the agent makes of an appspec, or None, and everything that makes it refuse."""
    findings = Findings()
    _check_loading(document, findings)
    root = document.root
    if not isinstance(root, Mapping):
        findings.error(
            "not-a-mapping",
            root or Place(),
            "The appspec is not a mapping of version, os, files, permissions and hooks.",
            "Begin with the line: version: 0.0",
        )
        return None, findings
    _check_version(root, findings)
    os = _read_os(root, findings)
    hooks = _read_hooks(root.get("hooks"), findings)
    files = _read_files(root.get("files"), findings)
    permissions = read_permissions(root.get("permissions"), os, findings)
    behavior = _read_behavior(root.get("file_exists_behavior"), findings)
    if findings.errors:
        return None, findings
    return AppSpec(os, hooks, files, permissions, behavior), findings


def _check_loading(document: Document, findings: Findings) -> None:
    """What Psych.safe_load refuses in any place of the file."""
    for name, at in document.anchors:
        findings.error(
            "anchor",
            at,
            f"The agent loads no anchors and aliases, and here is the anchor {quoted(name)}.",
            "Write the value out in each place; put a text that begins with & or * in quotes.",
        )
    for node in walk(document.root):
        if not isinstance(node, Scalar):
            continue
        if node.tag == "timestamp":
            findings.error(
                "date",
                node,
                f"The agent loads no dates, and it takes {quoted(node.text)} for one.",
                f'Put it in quotes: "{node.text}"',
            )
        elif node.plain and re.match(r":\S", node.text):
            findings.error(
                "symbol",
                node,
                f"The agent loads no symbols of Ruby, and it takes {quoted(node.text)} for one.",
                f'Put it in quotes: "{node.text}"',
            )


def _check_version(root: Mapping, findings: Findings) -> None:
    node = root.get("version")
    value = number_of(node)
    if not isinstance(value, bool) and isinstance(value, int | float) and value == 0:
        return
    mend = "Write it as a number, first in the file: version: 0.0"
    if node is None:
        message = "version is missing."
        for key, _ in root.pairs:
            if closest(key_text(key), ["version"]):
                message = f"version is missing; {quoted(key_text(key))} is not that key."
    elif isinstance(value, str) and re.fullmatch(r"0(\.0*)?", value.strip()):
        message = f"version is the text {quoted(value)}, and the agent takes the number 0.0 alone."
        mend = "Take the quotes away: version: 0.0"
    else:
        message = f"version is {quoted(ruby(value))}, and the agent takes 0.0 alone."
    findings.error(
        "version",
        node or root,
        message,
        mend,
        words=f"The deployment failed because an invalid version value ({ruby(value)}) was entered in the "
        'application specification file. Make sure your AppSpec file specifies "0.0" as the version, '
        "and then try again.",
    )


def _read_os(root: Mapping, findings: Findings) -> str:
    node = root.get("os")
    value = plain(node)
    if value in ("linux", "windows"):
        return str(value)
    meant = (
        "windows" if "win" in ruby(value).casefold() and "darwin" not in ruby(value).casefold() else "linux"
    )
    findings.error(
        "os",
        node or root,
        f"os is {quoted(ruby(value))}, and the agent takes exactly linux or windows."
        if node is not None
        else "os is missing.",
        f"Write: os: {meant}",
        words="The deployment failed because the application specification file specifies an unsupported "
        f'operating system ({ruby(value)}). Specify either "linux" or "windows" in the os section of the '
        "AppSpec file, and then try again.",
    )
    return ""


def _read_hooks(node: Node | None, findings: Findings) -> dict[str, tuple[Script, ...]]:
    if node is None or is_nothing(node):
        return {}
    if not isinstance(node, Mapping):
        findings.error(
            "hooks",
            node,
            "The hooks of the appspec must be a mapping of lifecycle events to scripts.",
            "Write the events as keys below hooks:, each with a list of maps with a location.",
        )
        return {}
    hooks = {}
    for key, value in node.pairs:
        event = text_of(key)
        hooks[event] = _read_scripts(event, key, value, findings)
    return hooks


def _read_scripts(event: str, key: Node, node: Node, findings: Findings) -> tuple[Script, ...]:
    """The scripts of one event; those that are refused are left out."""
    mend = f"Write: {event}:, and below it, indented: - location: scripts/name.sh"
    if is_empty(node):
        return ()
    if not isinstance(node, Sequence):
        findings.error(
            "hook-form",
            key if is_null(node) else node,
            f"The hook {event} must be a list of maps with a location.",
            mend,
        )
        return ()
    scripts = []
    for item in node.items:
        if not isinstance(item, Mapping):
            findings.error(
                "hook-form",
                item,
                f"The hook {event} must be a list of maps with a location; this is no map.",
                mend,
            )
        elif script := _read_script(item, findings):
            scripts.append(script)
    return tuple(scripts)


def _read_script(item: Mapping, findings: Findings) -> Script | None:
    node = item.get("location")
    location = text_of(node).strip()
    if not location:
        instead = [key for key, _ in item.pairs if key_text(key).casefold() in _INSTEAD_OF_LOCATION]
        message = "A script has no location."
        if instead:
            message = f"A script has no location, and the agent does not know {quoted(key_text(instead[0]))}."
        findings.error(
            "no-location",
            instead[0] if instead else node or item,
            message,
            "Put the commands into a script of the revision, and name it: location: scripts/name.sh",
            words="The deployment failed because the application specification file specifies a script "
            "with no "
            "location value. Specify the location in the hooks section of the AppSpec file, and then try "
            "again.",
        )
    timeout = _read_timeout(item.get("timeout"), findings)
    if not location or not timeout:
        return None
    runas = item.get("runas")
    return Script(
        location=location,
        timeout=timeout,
        runas=None if is_null(runas) else text_of(runas).strip(),
        sudo=bool(plain(item.get("sudo"))),
    )


def _read_timeout(node: Node | None, findings: Findings) -> int:
    """The seconds that a script has; 0 after a finding."""
    if node is None or is_nothing(node):
        return DEFAULT_TIMEOUT
    value = number_of(node)
    if isinstance(value, str):
        # Ruby's to_i: the number at the start, else 0.
        number = re.match(r"\s*[+-]?\d{1,18}", value)
        timeout = int(number.group()) if number else 0
    elif isinstance(value, int) or (isinstance(value, float) and abs(value) < 1e18):
        timeout = 0 if isinstance(value, bool) else int(value)
    else:
        timeout = 0
    if timeout <= 0:
        findings.error(
            "timeout",
            node,
            f"The timeout {quoted(ruby(value))} is no number of seconds above 0.",
            "Write whole seconds, such as: timeout: 300",
            words="The deployment failed because an invalid timeout value was provided for a script in the "
            "application specification file. Make corrections in the hooks section of the AppSpec file, and "
            "then try again.",
        )
    return max(timeout, 0)


def _read_files(node: Node | None, findings: Findings) -> tuple[FileMapping, ...]:
    mappings = []
    for item in read_items(node, "files", "- source: NAME and destination: FOLDER", findings):
        source, destination = item.get("source"), item.get("destination")
        if is_null(source):
            findings.error(
                "no-source",
                item,
                "An item of files has no source.",
                "Name a file or folder of the revision: source: NAME, or source: / for all of it.",
                words="The deployment failed because the application specification file specifies a "
                "destination "
                "file, but no source file. Update the files section of the AppSpec file, and then try again.",
            )
        elif is_null(destination):
            findings.error(
                "no-destination",
                item,
                "An item of files has no destination.",
                "Name the folder on the host, from the root on: destination: /srv/app",
                words="The deployment failed because the application specification file specifies only a "
                "source "
                f"file ({text_of(source)}). Add the name of the destination file to the files section of "
                "the AppSpec file, and then try again.",
            )
        else:
            mappings.append(FileMapping(text_of(source), text_of(destination)))
    return tuple(mappings)


def _read_behavior(node: Node | None, findings: Findings) -> str | None:
    if node is None or is_null(node):
        return None
    value = plain(node)
    if value not in FILE_EXISTS_BEHAVIORS:
        findings.error(
            "file-exists-behavior",
            node,
            f"file_exists_behavior is {quoted(ruby(value))}.",
            "Write one of DISALLOW, OVERWRITE and RETAIN, in capitals.",
            words="The deployment failed because an invalid option was specified for fileExistsBehavior: "
            f"{ruby(value)}. Valid options include OVERWRITE, RETAIN, and DISALLOW.",
        )
        return None
    return str(value)
