"""appspec.yml as CodeDeploy's agent reads it: what it accepts, refuses, and silently misreads.

The messages are the agent's own where it has one; where it ends in a Ruby error, ours says what is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

LIFECYCLE_EVENTS = (
    "BeforeBlockTraffic", "BlockTraffic", "AfterBlockTraffic", "ApplicationStop", "DownloadBundle",
    "BeforeInstall", "Install", "AfterInstall", "ApplicationStart", "ValidateService",
    "BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic",
)  # fmt: skip
DEFAULT_TIMEOUT = 3600
FILE_EXISTS_BEHAVIORS = ("DISALLOW", "OVERWRITE", "RETAIN")
_TYPES = ("file", "directory")


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
    """Read the content of an appspec.yml, YAML or JSON. Raises AppSpecError."""
    content = _load(text)
    if not isinstance(content, dict):
        raise AppSpecError("The AppSpec file is not a mapping of version, os, files, permissions and hooks.")
    version = content.get("version")
    if isinstance(version, bool) or not isinstance(version, int | float) or version != 0:
        raise AppSpecError(
            f"The deployment failed because an invalid version value ({_ruby(version)}) was entered in the "
            'application specification file. Make sure your AppSpec file specifies "0.0" as the version, '
            "and then try again."
        )
    os = content.get("os")
    if os not in ("linux", "windows"):
        raise AppSpecError(
            "The deployment failed because the application specification file specifies an unsupported "
            f'operating system ({_ruby(os)}). Specify either "linux" or "windows" in the os section of the '
            "AppSpec file, and then try again."
        )
    return AppSpec(
        os=os,
        hooks=_hooks(content.get("hooks")),
        files=_files(content.get("files")),
        permissions=_permissions(content.get("permissions"), os),
        file_exists_behavior=_behavior(content.get("file_exists_behavior")),
    )


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml, as in Ruby
    """What Psych.safe_load takes: no dates, and a lone "=" is a word."""


def _no_date(loader: Any, node: Any) -> Any:
    raise AppSpecError(
        f"The AppSpec file has the date {node.value!r}; the agent loads none. Put it in quotes."
    )


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _no_date)
_Loader.add_constructor("tag:yaml.org,2002:value", _Loader.construct_yaml_str)


def _load(text: str) -> Any:
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.NodeEvent) and event.anchor:
                raise AppSpecError(f"The AppSpec file has the anchor {event.anchor!r}; the agent loads none.")
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and re.match(r":\S", event.value):
                raise AppSpecError(f"The AppSpec file has {event.value!r}, which Ruby takes for a symbol.")
            if isinstance(event, yaml.DocumentEndEvent):
                break
        loader = _Loader(text)
        try:
            # The first document only, as in Ruby.
            return loader.get_data() if loader.check_data() else None
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise AppSpecError(f"The AppSpec file is not YAML: {' '.join(str(error).split())}") from None
    except (ValueError, RecursionError) as error:
        raise AppSpecError(f"The AppSpec file cannot be read: {error}") from None


def _ruby(value: Any) -> str:
    """A value as Ruby puts it into a text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _items(value: Any, what: str) -> list[dict[str, Any]]:
    if value is None or value is False:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise AppSpecError(f"{what} of the AppSpec file must be a list of mappings.")
    return value


def _hooks(value: Any) -> dict[str, tuple[Script, ...]]:
    if value is None or value is False:
        return {}
    if not isinstance(value, dict):
        raise AppSpecError("The hooks of the AppSpec file must be a mapping of lifecycle events to scripts.")
    hooks = {}
    for event, scripts in value.items():
        if not isinstance(scripts, list) or not all(isinstance(script, dict) for script in scripts):
            raise AppSpecError(
                f"The hook {event} of the AppSpec file must be a list of maps with a location."
            )
        hooks[str(event)] = tuple(_script(script) for script in scripts)
    return hooks


def _script(script: dict[str, Any]) -> Script:
    location = script.get("location")
    location = "" if location is None else _ruby(location).strip()
    if not location:
        raise AppSpecError(
            "The deployment failed because the application specification file specifies a script with no "
            "location value. Specify the location in the hooks section of the AppSpec file, and then try "
            "again."
        )
    runas = script.get("runas")
    return Script(
        location=location,
        timeout=_timeout(script.get("timeout")),
        runas=None if runas is None else _ruby(runas).strip(),
        sudo=bool(script.get("sudo")),
    )


def _timeout(value: Any) -> int:
    if value is None or value is False:
        return DEFAULT_TIMEOUT
    if isinstance(value, str):
        # Ruby's to_i: the number at the start, else 0.
        number = re.match(r"\s*[+-]?\d+", value)
        timeout = int(number.group()) if number else 0
    elif isinstance(value, int | float) and not isinstance(value, bool):
        timeout = int(value)
    else:
        timeout = 0
    if timeout <= 0:
        raise AppSpecError(
            "The deployment failed because an invalid timeout value was provided for a script in the "
            "application specification file. Make corrections in the hooks section of the AppSpec file, and "
            "then try again."
        )
    return timeout


def _files(value: Any) -> tuple[FileMapping, ...]:
    mappings = []
    for item in _items(value, "The files"):
        source, destination = item.get("source"), item.get("destination")
        if source is None:
            raise AppSpecError(
                "The deployment failed because the application specification file specifies a destination "
                "file, but no source file. Update the files section of the AppSpec file, and then try again."
            )
        if destination is None:
            raise AppSpecError(
                "The deployment failed because the application specification file specifies only a source "
                f"file ({source}). Add the name of the destination file to the files section of the AppSpec "
                "file, and then try again."
            )
        mappings.append(FileMapping(_ruby(source), _ruby(destination)))
    return tuple(mappings)


def _permissions(value: Any, os: str) -> tuple[Permission, ...]:
    permissions = []
    for item in _items(value, "The permissions"):
        name = item.get("object")
        if name is None or not _ruby(name).strip():
            raise AppSpecError(
                "The deployment failed because a permission listed in the application specification file has "
                "no object value. Update the permissions section of the AppSpec file, and then try again."
            )
        if os != "linux":
            raise AppSpecError(
                "The deployment failed because the application specification file specifies file "
                "permissions, but the deployment is targeting Windows. Permissions are supported on Linux "
                "only."
            )
        permissions.append(
            Permission(
                object=_ruby(name).strip(),
                pattern="**" if item.get("pattern") is None else str(item["pattern"]),
                except_=tuple(str(glob) for glob in _plain_list(item.get("except"), "except")),
                types=_permission_types(item.get("type")),
                owner=None if item.get("owner") is None else str(item["owner"]),
                group=None if item.get("group") is None else str(item["group"]),
                mode=_mode(item.get("mode")),
                unsupported=tuple(key for key in ("acls", "context") if item.get(key) is not None),
            )
        )
    return tuple(permissions)


def _plain_list(value: Any, key: str) -> list[Any]:
    if value is None or value is False:
        return []
    if not isinstance(value, list):
        raise AppSpecError(f"{key} in the permissions of the AppSpec file must be a list.")
    return value


def _permission_types(value: Any) -> tuple[str, ...]:
    for kind in (types := _plain_list(value, "type") if value is not None else [*_TYPES]):
        if kind not in _TYPES:
            raise AppSpecError(
                "The deployment failed because the application specification file specifies a permission for "
                f"an object type not supported for permissions ({kind}). Update the permissions section of "
                "the AppSpec file, and then try again."
            )
    return tuple(types)


def _mode(value: Any) -> int | None:
    """The mode that the agent sets; an unquoted 0644 has become the number 420 by now, and sets 0420."""
    if value is None:
        return None
    mode = _ruby(value).rjust(3, "0")
    if len(mode) > 4:
        raise AppSpecError(
            f"The deployment failed because the length of a permissions mode ({mode}) in the application "
            "specification file is invalid. Permissions modes must be between one and four characters long. "
            "Update the permissions section of the AppSpec file, and then try again."
        )
    for char in mode:
        if char not in "01234567":
            raise AppSpecError(
                f"The deployment failed because the permissions mode ({mode}) in the application "
                f"specification file contains an invalid character ({char}). Update the permissions section "
                "of the AppSpec file, and then try again."
            )
    return int(mode, 8)


def _behavior(value: Any) -> str | None:
    if value is None:
        return None
    if value not in FILE_EXISTS_BEHAVIORS:
        raise AppSpecError(
            "The deployment failed because an invalid option was specified for fileExistsBehavior: "
            f"{_ruby(value)}. Valid options include OVERWRITE, RETAIN, and DISALLOW."
        )
    return str(value)
