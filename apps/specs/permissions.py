"""The permissions of an appspec, as the agent reads them: on Linux alone, and only for what Install made."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .document import Mapping, Node, Scalar, Sequence, is_null, plain
from .findings import Findings, quoted
from .ruby import is_nothing, read_items, ruby, text_of

_TYPES = ("file", "directory")
# An entry of an access control list: [default:][user|group|mask|other]:[name]:rights, each word also as its
# first letter. Only a default entry and the mask may be without a name: the rest of those is the mode's.
_ACE = re.compile(
    r"(?:(?:m|mask)::?"
    r"|(?:u|user|g|group):[^:]+:"
    r"|(?!(?:m|mask|o|other):)[^:]+:"
    r"|(?:d|default):(?:(?:m|mask|o|other)::?|(?:u|user|g|group):[^:]*:|[^:]*:)"
    r")(?:[0-7]|[rwx-]*)"
)
_RANGE = re.compile(r"s\d+(-s\d+)?(:c\d+(\.c\d+)?(,c\d+(\.c\d+)?)*)?")


@dataclass(frozen=True)
class Permission:
    """One item of `permissions`."""

    object: str
    pattern: str
    except_: tuple[str, ...]
    types: tuple[str, ...]
    owner: str | None
    group: str | None
    mode: int | None
    unsupported: tuple[str, ...]


def read_permissions(node: Node | None, os: str, findings: Findings) -> tuple[Permission, ...]:
    """What the agent makes of the section; whatever it refuses is in the findings and left out."""
    permissions = []
    for item in read_items(node, "permissions", "- object: FOLDER, and what it should get", findings):
        name = text_of(item.get("object")).strip()
        if not name:
            findings.error(
                "no-object",
                item,
                "An item of permissions has no object.",
                "Name the file or folder on the host: object: /srv/app",
                words="The deployment failed because a permission listed in the application specification "
                "file "
                "has no object value. Update the permissions section of the AppSpec file, and then try "
                "again.",
            )
        elif os == "windows":
            findings.error(
                "permissions-on-windows",
                item,
                "The appspec has permissions, and its os is windows.",
                "Take the permissions section away; use a script in AfterInstall.",
                words="The deployment failed because the application specification file specifies file "
                "permissions, but the deployment is targeting Windows. Permissions are supported on Linux "
                "only.",
            )
        else:
            permissions.append(_read_permission(item, name, findings))
    return tuple(permissions)


def _read_permission(item: Mapping, name: str, findings: Findings) -> Permission:
    _check_acls(item.get("acls"), findings)
    _check_context(item.get("context"), findings)
    pattern = item.get("pattern")
    return Permission(
        object=name,
        pattern="**" if is_null(pattern) else text_of(pattern),
        except_=tuple(text_of(glob) for glob in _plain_list(item.get("except"), "except", findings)),
        types=_types(item.get("type"), findings),
        owner=_optional(item.get("owner")),
        group=_optional(item.get("group")),
        mode=_mode(item.get("mode"), findings),
        unsupported=tuple(key for key in ("acls", "context") if not is_null(item.get(key))),
    )


def _optional(node: Node | None) -> str | None:
    return None if is_null(node) else str(plain(node))


def _plain_list(node: Node | None, key: str, findings: Findings) -> list[Node]:
    if node is None or is_nothing(node):
        return []
    if not isinstance(node, Sequence):
        findings.error(
            "permission-list",
            node,
            f"{key} in permissions must be a list.",
            f"Write: {key}: [{quoted(text_of(node)) if isinstance(node, Scalar) else '...'}]",
        )
        return []
    return node.items


def _types(node: Node | None, findings: Findings) -> tuple[str, ...]:
    if node is None or is_nothing(node):
        return _TYPES
    found = []
    for kind in _plain_list(node, "type", findings):
        if (name := plain(kind)) in _TYPES:
            found.append(name)
            continue
        findings.error(
            "permission-type",
            kind,
            f"The type {quoted(ruby(name))} in permissions is neither file nor directory.",
            "Write: type: [file], [directory], or leave it out for both.",
            words="The deployment failed because the application specification file specifies a "
            "permission for "
            f"an object type not supported for permissions ({ruby(name)}). Update the permissions section of "
            "the AppSpec file, and then try again.",
        )
    return tuple(found)


def _mode(node: Node | None, findings: Findings) -> int | None:
    """The mode that the agent sets; an unquoted 0644 has become the number 420 by now, and sets 0420."""
    if node is None or is_null(node):
        return None
    mode = text_of(node).rjust(3, "0")
    meant = node.text if isinstance(node, Scalar) and re.fullmatch("[0-7]{3,4}", node.text) else "0644"
    if len(mode) > 4:
        findings.error(
            "mode",
            node,
            f"The mode {quoted(mode)} has more than four digits.",
            f'Write three or four octal digits in quotes: mode: "{meant}"',
            words=f"The deployment failed because the length of a permissions mode ({mode}) in the "
            "application "
            "specification file is invalid. Permissions modes must be between one and four characters long. "
            "Update the permissions section of the AppSpec file, and then try again.",
        )
        return None
    wrong = re.search("[^0-7]", mode)
    if wrong is None:
        return int(mode, 8)
    octal = isinstance(node, Scalar) and node.text != text_of(node)
    findings.error(
        "mode",
        node,
        f"The mode {quoted(node.text)} is a number of base 8 to YAML: {mode} to the agent, which is no mode."
        if isinstance(node, Scalar) and octal
        else f"The mode {quoted(mode)} has a character that is no octal digit.",
        f'Write the digits in quotes: mode: "{meant}"',
        words=f"The deployment failed because the permissions mode ({mode}) in the application specification "
        f"file contains an invalid character ({wrong.group()}). Update the permissions section of the "
        "AppSpec "
        "file, and then try again.",
    )
    return None


def _check_acls(node: Node | None, findings: Findings) -> None:
    for item in _plain_list(node, "acls", findings):
        entry = text_of(item)
        if isinstance(plain(item), str) and _ACE.fullmatch(entry):
            continue
        findings.error(
            "acl",
            item,
            f"The agent takes no such entry of an access control list: {quoted(entry)}.",
            "Write it as user:NAME:rwx or group:NAME:r-x (with default: before it for folders); "
            "rights of the owner and of others are the mode's.",
            words="The deployment failed because of a problem with the acls permission settings in the "
            f"application specification file. Invalid acl entry ({entry}).",
        )


def _check_context(node: Node | None, findings: Findings) -> None:
    if node is None or is_null(node):
        return
    if not isinstance(node, Mapping) or is_null(node.get("type")):
        findings.error(
            "context",
            node,
            "The context in permissions has no type.",
            "Write the SELinux type: context: {type: httpd_sys_content_t}",
            words="The deployment failed because the application specification file specifies an invalid "
            "context "
            f"type ({text_of(node)}). Update the permissions section of the AppSpec file, and then try "
            "again.",
        )
        return
    limits = node.get("range")
    if limits is not None and not is_null(limits) and not _RANGE.fullmatch(text_of(limits)):
        findings.error(
            "context",
            limits,
            f"The range {quoted(text_of(limits))} of the context is none of SELinux.",
            "Write it as s0, s0-s3 or s0:c1,c5.c9",
        )
