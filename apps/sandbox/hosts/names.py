"""Unit names, and the part of a host's file system that stands for the real one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# What a unit or shell line names absolutely and a sandbox host keeps under its own root.
HOST_PATHS = (
    "/etc/lockkeeper",
    "/opt/codedeploy-agent",
    "/opt/lockkeeper",
    "/run/lockkeeper",
    "/srv/lockkeeper",
    "/var/lib/lockkeeper",
    "/var/log/lockkeeper",
)
# A path already below a root is preceded by a path character and so is never mapped twice.
_MAPPED = re.compile(r"(?<![\w./])(?:" + "|".join(map(re.escape, HOST_PATHS)) + ")")
_SYSTEMCTL = re.compile(r"(?<![\w./])(?:/usr)?/bin/systemctl\b")
_SAFE_ROOT = re.compile(r"/[\w./+@,:=-]*")


class UnsafeRoot(ValueError):
    """A host's root cannot be put into shell lines unquoted."""


@dataclass(frozen=True)
class Layout:
    """Where a sandbox host keeps what a real one has at fixed places."""

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_absolute():
            raise UnsafeRoot(f"the host's root must be an absolute path, not {str(self.root)!r}")
        if not _SAFE_ROOT.fullmatch(str(self.root)):
            raise UnsafeRoot(
                f"the host's root {str(self.root)!r} has characters that are special to a shell; units put "
                "it into shell lines, so use a path of letters, digits and ./+@,:=_- only"
            )

    @property
    def units(self) -> Path:
        """The only directory that unit files are read from."""
        return self.root / "etc/systemd/system"

    @property
    def journal(self) -> Path:
        """One log file per unit."""
        return self.root / "var/log/journal"

    @property
    def control_socket(self) -> Path:
        """Where the supervisor listens for the `systemctl` client."""
        return self.root / "run/systemd/systemctl.sock"

    @property
    def bin(self) -> Path:
        """Executables that shadow the machine's own, first in the PATH of units and hooks."""
        return self.root.parent / "bin"

    def map(self, text: str) -> str:
        """Return text with every host path in it below the root, and `systemctl` being this host's."""
        text = _MAPPED.sub(lambda match: str(self.root) + match.group(), text)
        return _SYSTEMCTL.sub(str(self.bin / "systemctl"), text)


@dataclass(frozen=True)
class UnitName:
    """`prefix@instance.suffix`; instance is None for a plain unit and empty for a template."""

    prefix: str
    instance: str | None
    suffix: str

    @classmethod
    def parse(cls, text: str) -> UnitName:
        """Split a unit's name; a name without a type is a service's, as for the real systemctl.

        Raises ValueError for a name that systemd would refuse.
        """
        if not re.search(
            r"\.(service|socket|target|timer|path|mount|slice|scope|device|swap|automount)$", text
        ):
            text += ".service"
        stem, _, suffix = text.rpartition(".")
        prefix, at, instance = stem.partition("@")
        if not prefix or len(text) > 255 or not re.fullmatch(r"[\w:.\\@-]+", stem):
            raise ValueError(f"Invalid unit name {text!r}")
        return cls(prefix, instance if at else None, suffix)

    @property
    def template(self) -> str | None:
        """The template's name, if this is an instance."""
        return f"{self.prefix}@.{self.suffix}" if self.instance else None

    def __str__(self) -> str:
        return f"{self.prefix}{'' if self.instance is None else '@' + self.instance}.{self.suffix}"


def resolve_specifiers(text: str, name: UnitName) -> str:
    """Replace `%i` and its like as systemd.unit(5) describes.

    Raises ValueError for a specifier that the sandbox does not know.
    """
    known = {
        "%": "%",
        "n": str(name),
        "N": str(name).rpartition(".")[0],
        "p": name.prefix,
        "P": name.prefix.replace("-", "/"),
        "i": name.instance or "",
        "I": (name.instance or "").replace("-", "/"),
        "j": name.prefix.rpartition("-")[2],
        "t": "/run",
        "S": "/var/lib",
        "L": "/var/log",
        "E": "/etc",
    }

    def value(match: re.Match[str]) -> str:
        try:
            return known[match.group(1)]
        except KeyError:
            raise ValueError(f"the specifier %{match.group(1)} is not supported by the sandbox") from None

    return re.sub(r"%(.)", value, text)
