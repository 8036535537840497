"""What CodeDeploy's agent accepts in an appspec and does not do as it reads.

Each function looks at one section. The agent's parser takes all of this, except for one thing: an event that
does not exist fails the deployment, once it has come to Install.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from pathlib import PurePath

from .appspec import LIFECYCLE_EVENTS
from .document import Document, Mapping, Node, Scalar, Sequence, is_null, key_text, plain
from .duplicates import note_duplicates, note_second_document
from .findings import Findings, closest, quoted
from .ruby import is_nothing, number_of, text_of

SECTIONS = ("version", "os", "files", "permissions", "hooks", "file_exists_behavior")
_SCRIPT = ("location", "timeout", "runas", "sudo")
_FILE = ("source", "destination")
_PERMISSION = ("object", "pattern", "except", "type", "owner", "group", "mode", "acls", "context")
UNSCRIPTABLE = ("DownloadBundle", "Install", "BlockTraffic", "AllowTraffic")
# These exist, but for deployments to Amazon ECS.
_ECS_EVENTS = ("AfterAllowTestTraffic",)
# An event must end within an hour, whatever the timeouts of its scripts.
EVENT_LIMIT = 3600
# Accounts that distributions make without a login shell; `runas` is `su USER -c`, which needs one.
_NO_LOGIN = {
    "apache", "bin", "daemon", "games", "httpd", "mail", "memcached", "mysql", "nginx", "nobody", "redis",
    "sshd", "sys", "tomcat", "www-data",
}  # fmt: skip


def advise(document: Document, name: str, findings: Findings, *, deploying: bool) -> None:
    """Note whatever is accepted without being done. `name` is the file's, "-" for none.

    With `deploying` the file is judged with its whole revision: what the agent's parser takes and the
    deployment then fails of is an error.
    """
    root = document.root
    if not isinstance(root, Mapping):
        return
    base = PurePath(name).name
    if base.casefold() in ("appspec.yaml", "appspec.json") or base.casefold() == "appspec.yml" != base:
        findings.warn(
            "file-name",
            root,
            f"On servers the agent reads appspec.yml alone, not {base}.",
            "Name the file appspec.yml and place it at the root of the revision (JSON in it is read, too).",
        )
    note_second_document(document, findings)
    note_duplicates(root, findings)
    _top(root, findings)
    os = text_of(root.get("os"))
    _files(root, findings)
    _permissions(root.get("permissions"), findings)
    _hooks(root.get("hooks"), os, findings, deploying)


def _unknown(
    mapping: Mapping, known: Iterable[str], where: str, findings: Findings, special: dict[str, str]
) -> None:
    """Keys that the agent ignores; `special` has the mend for some."""
    known = tuple(known)
    for key, _ in mapping.pairs:
        word = key_text(key)
        if word in known:
            continue
        meant = closest(word, known)
        mend = special.get(word) or (
            f"Did you mean {meant}?" if meant else f"Remove it; known here are {', '.join(known)}."
        )
        findings.warn("unknown-key", key, f"The key {quoted(word)} {where} is ignored.", mend)


def _top(root: Mapping, findings: Findings) -> None:
    special = {}
    for key, _ in root.pairs:
        word = key_text(key)
        if event := closest(word, LIFECYCLE_EVENTS):
            special[word] = f"Indent it below hooks, as {event}: at the top level its scripts never run."
        elif word in _SCRIPT:
            special[word] = "Indent it below the script in hooks that it belongs to."
        elif word in _FILE:
            special[word] = "Indent it below files, as a key of a list item."
        elif word in _PERMISSION:
            special[word] = "Indent it below permissions, as a key of a list item."
    _unknown(root, SECTIONS, "at the top level", findings, special)


def _files(root: Mapping, findings: Findings) -> None:
    node = root.get("files")
    if node is None or is_nothing(node):
        findings.warn(
            "no-files",
            node or root,
            "There are no files, so Install copies nothing; hooks run in the unpacked revision alone.",
            "Add files: with a source and a destination, if something should be copied.",
        )
        return
    special = {
        "overwrite": "Write file_exists_behavior: OVERWRITE at the top level of the file.",
        "file_exists_behavior": "Move it to the top level of the file: in an item of files it has no effect.",
    } | dict.fromkeys(
        ("mode", "owner", "group", "permissions", "object", "pattern", "type", "acls"),
        "Write it in the permissions section, at the top level.",
    )
    for item in node.items if isinstance(node, Sequence) else []:
        if not isinstance(item, Mapping):
            continue
        _unknown(item, _FILE, "in an item of files", findings, special)
        source, destination = item.get("source"), item.get("destination")
        if source is None or destination is None or is_null(source) or is_null(destination):
            continue
        _source(source, findings)
        _destination(source, destination, text_of(root.get("os")), findings)


def _source(node: Node, findings: Findings) -> None:
    source = text_of(node).replace("\\", "/")
    if ".." in source.split("/"):
        findings.warn(
            "source-outside",
            node,
            f"The source {quoted(source)} leads out of the revision: the agent copies whatever of the host "
            "is there.",
            "Name a file or folder of the revision, without '..'.",
        )
    elif source.startswith("/") and source.strip("/"):
        findings.warn(
            "source-absolute",
            node,
            f"The source {quoted(source)} is looked for in the revision, not at the root of the host.",
            f"Write it without the slash: source: {source.lstrip('/')}",
        )
    if re.search(r"[*?]|\[.+\]|\{.+,.+\}", source):
        findings.warn(
            "source-wildcard",
            node,
            f"The source {quoted(source)} has a wildcard, and the agent looks for a file of just that name.",
            "Name the folder, or each file in an item of its own.",
        )


def _destination(source: Node, node: Node, os: str, findings: Findings) -> None:
    destination = text_of(node)
    absolute = destination.startswith("/") or (
        os == "windows" and (re.match(r"[A-Za-z]:|\\", destination) or destination.startswith("\\"))
    )
    if not absolute:
        findings.warn(
            "destination-relative",
            node,
            f"The destination {quoted(destination)} is below the agent's own working directory, wherever "
            "that is.",
            "Write the folder from the root on: destination: /srv/app",
        )
    name = posixpath.basename(text_of(source).replace("\\", "/").rstrip("/"))
    folder = posixpath.basename(destination.replace("\\", "/"))
    if name and folder == name and "." in name.strip("."):
        findings.warn(
            "destination-is-folder",
            node,
            f"A destination is a folder: this makes {destination}/{name}.",
            f"Name the folder alone: destination: {posixpath.dirname(destination) or '/'}",
        )


def _permissions(node: Node | None, findings: Findings) -> None:
    for item in node.items if isinstance(node, Sequence) else []:
        if not isinstance(item, Mapping):
            continue
        _unknown(item, _PERMISSION, "in an item of permissions", findings, {})
        name = item.get("object")
        if name is not None and text_of(name).strip() and not text_of(name).strip().startswith("/"):
            findings.warn(
                "object-relative",
                name,
                f"The object {quoted(text_of(name))} is below the agent's own working directory, wherever "
                "that is.",
                "Write the path from the root on: object: /srv/app",
            )
        elif name is not None and "*" in text_of(name):
            findings.warn(
                "object-wildcard",
                name,
                f"The object {quoted(text_of(name))} has a wildcard, and the agent looks for just that name.",
                'Name the folder as object, and the files in it as pattern: "*.sh"',
            )
        _mode(item.get("mode"), findings)
        _pattern(item.get("pattern"), findings)


def _mode(node: Node | None, findings: Findings) -> None:
    # What the agent refuses of this kind, such as 0755, is found by the reader.
    if not isinstance(node, Scalar) or node.tag != "int" or node.text == text_of(node):
        return
    mode = text_of(node)
    if re.fullmatch("[0-7]{1,4}", mode):
        findings.warn(
            "mode-unquoted",
            node,
            f"The mode {node.text} is a number of base 8 to YAML; the agent gets {mode} and sets {mode:0>4}.",
            f'Write the digits in quotes: mode: "{node.text}"',
        )


def _pattern(node: Node | None, findings: Findings) -> None:
    if node is None or is_null(node) or text_of(node) == "**":
        return
    pattern = text_of(node)
    message = f"The pattern {quoted(pattern)} matches what lies directly in the object, nothing deeper."
    mend = 'Write pattern: "**" for everything below, or an item for each folder.'
    if "/" in pattern:
        message = f"The pattern {quoted(pattern)} has a slash and so matches nothing: patterns are for names."
    findings.warn("pattern-shallow", node, message, mend)


def _hooks(node: Node | None, os: str, findings: Findings, deploying: bool) -> None:
    for key, scripts in node.pairs if isinstance(node, Mapping) else []:
        event = text_of(key)
        items = (
            [item for item in scripts.items if isinstance(item, Mapping)]
            if isinstance(scripts, Sequence)
            else []
        )
        _event(event, key, bool(items), findings, deploying)
        total = 0
        for item in items:
            total += _script(item, os, findings)
        if total > EVENT_LIMIT:
            findings.warn(
                "timeouts-over-an-hour",
                key,
                f"The timeouts of {event} add up to {total} s, and an event is ended after {EVENT_LIMIT} s.",
                f"Make the timeouts of the event's scripts add up to {EVENT_LIMIT} or less.",
            )


def _event(event: str, key: Node, has_scripts: bool, findings: Findings, deploying: bool) -> None:
    if event in UNSCRIPTABLE:
        findings.warn(
            "unscriptable-event",
            key,
            f"Scripts of {event} never run: that event is the agent's and CodeDeploy's own.",
            "Use the event before or after it, such as BeforeInstall or AfterInstall.",
        )
    elif event not in LIFECYCLE_EVENTS:
        meant = closest(event, LIFECYCLE_EVENTS)
        mend = f"Did you mean {meant}?" if meant else f"Known events are {', '.join(LIFECYCLE_EVENTS)}."
        if event in _ECS_EVENTS:
            mend = "It exists for deployments to Amazon ECS alone; use BeforeAllowTraffic or ValidateService."
        if has_scripts:
            message = (
                f"There is no lifecycle event {quoted(event)}: the deployment fails at Install, after "
                "BeforeInstall has run."
            )
            (findings.error if deploying else findings.warn)("unknown-event", key, message, mend)
        else:
            findings.warn("empty-unknown-event", key, f"There is no lifecycle event {quoted(event)}.", mend)


def _script(item: Mapping, os: str, findings: Findings) -> int:
    """Look at one script; returns the seconds that it was given."""
    special = dict.fromkeys(
        ("run", "command", "commands", "script", "args", "arguments"),
        "Put the commands into the script that location names: the agent runs that file alone, without "
        "arguments.",
    ) | dict.fromkeys(("mode", "owner", "group"), "Write it in the permissions section, at the top level.")
    _unknown(item, _SCRIPT, "of a script", findings, special)
    location = item.get("location")
    if location is not None and text_of(location).strip():
        _location(location, os, findings)
    _user(item, os, findings)
    node = item.get("timeout")
    if node is None or is_nothing(node):
        if location is not None:
            findings.warn(
                "no-timeout",
                item,
                "The script has no timeout, so a script that hangs holds the deployment for an hour.",
                "Add the longest that it may take, in seconds: timeout: 300",
            )
        return 0
    value = number_of(node)
    if isinstance(value, str) and not re.fullmatch(r"\s*\+?\d+\s*", value):
        number = re.match(r"\s*\+?(\d{1,18})", value)
        if number and int(number[1]):
            findings.warn(
                "timeout-unit",
                node,
                f"The timeout {quoted(value)} is read as {int(number[1])} seconds, whatever follows the "
                "number.",
                f"Write the seconds alone: timeout: {int(number[1])}",
            )
        return int(number[1]) if number else 0
    try:
        return max(int(value), 0)
    except (TypeError, ValueError, OverflowError):
        return 0  # the reader has refused it


def _location(node: Node, os: str, findings: Findings) -> None:
    location = text_of(node).strip()
    parts = location.replace("\\", "/").split("/")
    if ".." in parts:
        findings.warn(
            "location-outside",
            node,
            f"The location {quoted(location)} leads out of the revision, to whatever the host has there.",
            "Name a script of the revision, without '..'.",
        )
    elif location.startswith("/"):
        findings.warn(
            "location-absolute",
            node,
            f"The location {quoted(location)} is looked for in the revision, not at the root of the host.",
            f"Write it without the slash: location: {location.lstrip('/') or 'scripts/name.sh'}",
        )
    if "\\" in location:
        findings.warn(
            "location-backslash",
            node,
            f"The location {quoted(location)} has a backslash, which on Linux is a part of a name.",
            f"Write it with slashes: location: {'/'.join(part for part in parts if part)}",
        )
    if re.search(r"\s", location):
        findings.warn(
            "location-space",
            node,
            f"The location {quoted(location)} has a space: scripts get no arguments, and such a name "
            "cannot be run.",
            "Name the script alone, without a space; what it should do stands in it.",
        )
    if location.endswith(("/", "\\")):
        findings.warn(
            "location-folder",
            node,
            f"The location {quoted(location)} is a folder, and the agent runs one file.",
            "Name the script in it, with its ending.",
        )


def _user(item: Mapping, os: str, findings: Findings) -> None:
    runas = item.get("runas")
    if runas is not None and not is_null(runas):
        user = text_of(runas).strip()
        if os == "windows":
            findings.warn(
                "runas-on-windows",
                runas,
                "runas has no effect on Windows.",
                "Take it away; scripts run as the account of the agent's service.",
            )
        elif user in _NO_LOGIN:
            findings.warn(
                "runas-no-login",
                runas,
                f"The user {user} usually has no login shell, and runas is `su {user} -c`: the script "
                "would fail with "
                '"This account is currently not available".',
                f"Run the script as root and change the user in it: runuser -u {user} -- COMMAND",
            )
    sudo = item.get("sudo")
    if sudo is not None and plain(sudo):
        findings.warn(
            "sudo",
            sudo,
            "sudo strips the environment: the script sees none of LIFECYCLE_EVENT, DEPLOYMENT_ID and the "
            "others.",
            "Take sudo and runas away: the agent runs scripts as root.",
        )
