"""Wheels made again from what is installed, so that a wheelhouse needs no network."""

import base64
import hashlib
import re
import zipfile
from importlib.metadata import Distribution, distribution, requires
from pathlib import Path

from packaging.requirements import Requirement


def repack(name: str, folder: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write the wheel of an installed distribution into ``folder``; the same bytes each time.

    Stored is made faster; deflated is as package indexes have it.
    """
    installed = distribution(name)
    title = re.sub(r"[-.]+", "_", installed.metadata["Name"])
    stem = f"{title}-{installed.version}"
    info = next(path.parts[0] for path in installed.files or () if path.parts[0].endswith(".dist-info"))
    tags = re.findall(r"^Tag: (\S+)$", installed.read_text("WHEEL") or "", re.MULTILINE)
    # py2-none-any and py3-none-any make py2.py3-none-any.
    tag = "-".join(
        ".".join(sorted(set(part))) for part in zip(*(tag.split("-") for tag in tags), strict=True)
    )
    wheel = folder / f"{stem}-{tag}.whl"
    members = {}
    for path in installed.files or ():
        place = _place(path.parts, stem)
        if place and not str(path).endswith((".pyc", "RECORD", "INSTALLER", "REQUESTED", "direct_url.json")):
            members[place] = Path(str(path.locate())).read_bytes()
    record = "".join(
        f"{place},sha256={_record_hash(data)},{len(data)}\n" for place, data in sorted(members.items())
    )
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(wheel, "w", compression) as archive:
        for place, data in sorted(members.items()):
            member = zipfile.ZipInfo(place)
            member.external_attr = (0o755 if ".data/scripts/" in place else 0o644) << 16
            archive.writestr(member, data, compression)
    return wheel


def lock(wheels: list[Path]) -> str:
    """The requirements.txt that pins wheels by their hashes."""
    lines = []
    for wheel in sorted(wheels):
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return "".join(lines)


def closure(names: list[str]) -> set[str]:
    """The named distributions and everything that they need here, by canonical name."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(name) for name in names]
    done = set()
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if (name, frozenset(wanted.extras)) in done:
            continue
        done.add((name, frozenset(wanted.extras)))
        found[name] = distribution(name)
        for line in requires(name) or ():
            need = Requirement(line)
            extras = wanted.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(need)
    return set(found)


def _place(parts: tuple[str, ...], stem: str) -> str | None:
    """Where a file goes in the wheel; None for what installers make, such as console scripts."""
    if parts[0] != "..":
        return "/".join(parts)
    # uv is a program and no console script; everything else in bin/ is written by the installer.
    return f"{stem}.data/scripts/{parts[-1]}" if stem.startswith("uv-") and parts[-2] == "bin" else None


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
