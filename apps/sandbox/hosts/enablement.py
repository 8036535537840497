"""`systemctl enable` and its like: links below the unit directory, no supervisor needed."""

from __future__ import annotations

from pathlib import Path

from .names import Layout, UnitName
from .unitfile import UnitFile, find_fragment, read_unit


class EnableError(Exception):
    """A unit cannot be enabled; the message says why."""


def enable(layout: Layout, name: UnitName) -> list[str]:
    """Make the links that [Install] asks for; returns a line for each new one.

    Raises EnableError, UnitError.
    """
    unit = _read(layout, name)
    lines = []
    links = _links(layout, unit)
    for link in links:
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(unit.fragment)
            lines.append(f"Created symlink {link} → {unit.fragment}.")
    for other in unit.words("Install", "Also"):
        if UnitName.parse(other) != name:
            lines += enable(layout, UnitName.parse(other))
    if not links and not unit.words("Install", "Also"):
        raise EnableError(f"The unit {name} has no installation config (WantedBy=, RequiredBy=, Also=).")
    return lines


def disable(layout: Layout, name: UnitName) -> list[str]:
    """Remove every link to the unit; returns a line for each. Raises EnableError, UnitError."""
    unit = _read(layout, name)
    lines = []
    for link in _existing(layout, name):
        link.unlink()
        lines.append(f"Removed {link}.")
    for other in unit.words("Install", "Also"):
        lines += [f"Removed {link}." for link in _existing(layout, UnitName.parse(other))]
        for link in _existing(layout, UnitName.parse(other)):
            link.unlink()
    return lines


def is_enabled(layout: Layout, name: UnitName) -> str:
    """`enabled`, `disabled`, `static`, `masked` or `not-found`."""
    fragment = find_fragment(layout, name)
    if fragment is None:
        return "not-found"
    if fragment.is_symlink() and str(fragment.readlink()) == "/dev/null":
        return "masked"
    if _existing(layout, name):
        return "enabled"
    unit = UnitFile(name, fragment) if name.instance == "" else _read(layout, name)
    return "disabled" if unit.sections.get("Install") else "static"


def _read(layout: Layout, name: UnitName) -> UnitFile:
    unit = read_unit(layout, name)
    if unit is None:
        raise EnableError(f"Unit file {name} does not exist.")
    return unit


def _links(layout: Layout, unit: UnitFile) -> list[Path]:
    return [
        layout.units / f"{target}.{kind}" / str(unit.name)
        for key, kind in (("WantedBy", "wants"), ("RequiredBy", "requires"))
        for target in unit.words("Install", key)
    ]


def _existing(layout: Layout, name: UnitName) -> list[Path]:
    return [link for kind in ("wants", "requires") for link in sorted(layout.units.glob(f"*.{kind}/{name}"))]
