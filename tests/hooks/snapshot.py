"""The state of a host in a form that can be compared: its tree and its units, by each release's role."""

import hashlib
import re
import stat

from deploy.environment import environment_key

# Records and the lock say who and when, and nothing depends on them; nor on what was hashed last.
LEFT_OUT = ("state/flight", "state/outbox", "state/lock", "state/hashed.json")
# Hashes of files and commits, and tales, in which releases differ that are otherwise alike.
HASHES = re.compile(rb"[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32}|\+[0-9a-f]{12}\b|tale-\d{3}")
OF_A_RELEASE = re.compile(r"(?:releases|venvs|state/used|configuration)/([0-9a-f]+)(?=/|$)")
# What is in a temporary folder does not matter, only that it is there: it goes as a whole.
BELOW_TEMPORARY = re.compile(r"(^|/)\.tmp-[^/]+/")
PYC_HEADER = 16  # holds the time of its source
_hashes = {}


def state_of(machine, bundle):
    """What is on the host and runs there, one line each, with the role of a release for its name.

    ``bundle`` is NEW. Releases that are neither it nor pointed at are left out: so states can be compared
    that differ in what had been deployed before.
    """
    names = {}
    for role in ("previous", "current"):
        if digest := machine.pointer(role):
            names[digest] = role.upper()
            link = machine.home / "releases" / digest / ".venv"
            names[link.readlink().name] = f"{role.upper()}-ENVIRONMENT"
    names[bundle.digest] = "NEW"
    names[environment_key(bundle.document["lock"]["sha256"])] = "NEW-ENVIRONMENT"
    named = re.compile("|".join(names))
    lines = [f"unit {named.sub(lambda found: names[found[0]], unit)}" for unit in machine.running()]
    for path in machine.home.rglob("*"):
        place = str(path.relative_to(machine.home))
        of = OF_A_RELEASE.match(place)
        if place.startswith(LEFT_OUT) or (of and of[1] not in names) or BELOW_TEMPORARY.search(place):
            continue
        line = f"{place} {_about(path)}"
        lines.append(named.sub(lambda found: names[found[0]], line))
    return sorted(lines)


def _about(path):
    status = path.lstat()
    mode = stat.filemode(status.st_mode)
    if path.is_symlink():
        return f"{mode} -> {path.readlink()}"
    if path.is_dir():
        return mode
    # With the change time: inodes are used again, and what comes out of a bundle has a fixed time.
    key = (status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size)
    if key not in _hashes:
        content = path.read_bytes()
        if path.suffix == ".pyc":
            content = content[PYC_HEADER:]
        if path.name == "uv_cache.json":  # the time of the wheel, which RECORD has the hash of
            content = b""
        if path.name == "RECORD":
            content = re.sub(rb".*/uv_cache\.json,.*\n", b"", content)
        if len(content) < 1 << 20:
            content = HASHES.sub(b"HASH", content)
        _hashes[key] = hashlib.sha256(content).hexdigest()
    return f"{mode} {_hashes[key]}"
