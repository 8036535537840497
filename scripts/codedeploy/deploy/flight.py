"""The flight record: what one lifecycle event did on this host, as one JSON file.

It is there from the first step on, so that it also exists when the hook is killed, and is written anew
whenever a step begins or ends. Writing it never fails a deployment: a full disk costs the record only.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy import files, output, steps
from deploy.errors import Failure
from deploy.host import Host
from deploy.process import run
from deploy.redaction import redact
from deploy.service_environment import read_environment

SCHEMA = 1
LARGEST = 64 * 1024
TEXT = 300
SENTENCE = 1200
UNIT = "lockkeeper-flight.service"
BUNDLE = ("bucket", "key", "version", "etag")
# Both become parts of a path and of a key in S3.
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


# What became known on the way.
_noted: dict[str, Any] = {}


def note(**fields: Any) -> None:
    """Add to this event's record; it is written with the next step."""
    _noted.update(fields)


class Flight:
    """The record of the event that this process is."""

    def __init__(self, event: str, *, root: Path, environ: Mapping[str, str]) -> None:
        self.event = event
        self.problem = ""
        self._root = root
        self._started = time.monotonic()
        self._host: Host | None = None
        self._learn_secrets(environ)
        with contextlib.suppress(Failure, OSError):  # which is the event's to tell
            self._host = Host.read(root)
        deployment = environ.get("DEPLOYMENT_ID", "")
        state = root / "srv/lockkeeper/state"
        self.path: Path | None = None
        if SAFE.fullmatch(deployment) and state.is_dir():
            self.path = state / "flight" / deployment / f"{event}.json"
            self._link = state / "outbox" / f"{deployment}.{event}.json"
        self.record: dict[str, Any] = {
            "schema": SCHEMA,
            "deployment_id": deployment,
            "host": self._host.name if self._host else os.uname().nodename,
            "application": environ.get("APPLICATION_NAME", ""),
            "group": environ.get("DEPLOYMENT_GROUP_NAME", ""),
            "event": event,
            "digest": None,
            "version": None,
            "started_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "seconds": 0.0,
            "exit_code": None,
            "result": "running",
            "error": "",
            "cause": None,
            "steps": [],
            "tail": [],
            "migrations": None,
            "bundle": {name: environ.get(f"BUNDLE_{name.upper()}", "") for name in BUNDLE},
        }
        steps.watch(self.write)

    def _setting(self, name: str) -> str:
        return self._host.settings.get(name, "") if self._host else ""

    def _learn_secrets(self, environ: Mapping[str, str]) -> None:
        """Know every secret of this host's service before the first line is printed."""
        redact.learn(environ)
        redact.learn(_variables(self._root / "etc/lockkeeper/environment"))
        folder = self._root / "srv/lockkeeper/configuration"
        try:
            # Of every release: the one before may be put back, and say something.
            kept = [path for path in folder.iterdir() if path.is_file()]
        except OSError:
            return
        for path in kept:
            redact.learn(_variables(path), all_secret=True)

    def end(self, failure: Failure | None) -> None:
        """Complete the record and have it uploaded."""
        self.record |= {
            "exit_code": 1 if failure else 0,
            "result": "failed" if failure else "succeeded",
            "error": _shortened(str(failure), SENTENCE) if failure else "",
            "cause": (failure.cause or None) if failure else None,
        }
        self.write()
        if self.path is None:
            return
        if self.problem:
            output.detail(f"There is no complete flight record: {self.problem}.")
        self._ask_for_upload()

    def write(self) -> None:
        """Write the record as it stands. What prevents it is kept in ``problem``."""
        if self.path is None:
            return
        self.record |= _noted
        self.record["seconds"] = _rounded(time.monotonic() - self._started)
        self.record["steps"] = [self._step(step) for step in steps.taken]
        self.record["tail"] = list(output.tail)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_unsynced(self.path, _encoded(self.record))
            _relink(self._link, self.path)
            self.problem = ""
        except OSError as error:
            self.problem = f"{error.filename or self.path}: {error.strerror or error}"

    def _step(self, step: steps.Step) -> dict[str, Any]:
        return {
            "name": step.name,
            "text": _shortened(step.text, TEXT),
            "started_s": _rounded(step.started - self._started),
            "seconds": None if step.seconds is None else _rounded(step.seconds),
            "result": step.result,
        }

    def _ask_for_upload(self) -> None:
        """Have systemd upload what lies in the outbox, without waiting for it."""
        unit = self._root / "etc/systemd/system" / UNIT
        if not self._setting("TOOLS_PYTHON") or not unit.exists():
            output.detail("Flight records stay on this host: scripts/provision-host can have them uploaded.")
            return
        try:
            # Not `start`: that would be nothing to an uploader that has just looked for the last time.
            run(["systemctl", "restart", "--no-block", UNIT], timeout_s=10)
        except (Failure, OSError) as problem:
            output.detail(f"The flight record is not uploaded now: {problem}")

    def summary(self, failure: Failure) -> list[str]:
        """Why the event failed, for CodeDeploy's log tail: few lines, the sentence first."""
        failed = next((step.name for step in steps.taken if step.result == "failed"), None)
        place = f" in step {failed}" if failed else ""
        sentence = f"{self.event} failed{place}: {_shortened(str(failure), SENTENCE)}"
        lines = _wrapped(sentence, output.LONGEST - 20)
        if failure.cause:
            lines.append(f"Known cause: {failure.cause} (docs/hooks.md)")
        if self.path is not None and not self.problem:
            lines.append(f"Steps, times and last lines: {self.path}")
        return lines


def _variables(path: Path) -> dict[str, str]:
    """The variables of an environment file, as far as it can be read; a wrong line is the event's to tell."""
    try:
        return read_environment(path)
    except OSError:
        return {}
    except (Failure, UnicodeDecodeError):
        pass
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines)
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


def _shortened(text: str, length: int) -> str:
    # Redacted first: a secret that was cut in two would not be known again.
    text = " ".join(redact(text).split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of ``width`` characters at most, broken at spaces where there are any."""
    lines = []
    while len(text) > width:
        at = text.rfind(" ", 1, width + 1)
        lines.append(text[: at if at > 0 else width])
        text = text[len(lines[-1]) :].lstrip()
    return [*lines, text]


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [_redacted(each) for each in value]
    if isinstance(value, dict):
        return {name: _redacted(each) for name, each in value.items()}
    return value


def _encoded(record: dict[str, Any]) -> bytes:
    """The record as JSON, redacted and at most LARGEST bytes long: the oldest of the last lines go first."""
    clean = _redacted(record)
    while True:
        body = json.dumps(clean, ensure_ascii=False, indent=1).encode(errors="replace") + b"\n"
        if len(body) <= LARGEST:
            return body
        if clean["tail"]:
            clean["tail"] = clean["tail"][len(clean["tail"]) // 2 + 1 :]
        elif clean["migrations"] is not None:
            clean["migrations"] = None
        else:
            clean["steps"] = clean["steps"][len(clean["steps"]) // 2 + 1 :]


def _relink(link: Path, target: Path) -> None:
    """Make ``link`` another name of ``target``; the uploader takes it away when the record is in S3."""
    link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = link.with_name(f"{files.TEMPORARY}{link.name}")
    temporary.unlink(missing_ok=True)
    temporary.hardlink_to(target)
    temporary.replace(link)
