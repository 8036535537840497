"""What this host's `manage.py prepare` or `migrate_once` did about migrations, for the flight record."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from apps.errors import Invalid
from apps.rollout.errors import in_one_line

LONGEST_ERROR = 2000


@dataclass
class Outcome:
    """``host`` is who applied them, or failed to: this one, or another of the same deployment.

    ``plan`` is what was missing when this host looked; ``result`` is applied, nothing, by-another or failed.
    """

    host: str
    plan: list[str] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)
    seconds: float = 0.0
    result: str = "failed"
    error: str = ""
    cause: str | None = None


def clear_report(path: Path | None) -> None:
    """Take an older report away, before anything is done; raise Invalid where none could be written."""
    if path is None:
        return
    try:
        path.unlink(missing_ok=True)
        _write(path, {})
        path.unlink()
    except OSError as error:
        raise Invalid(f"--report {path}: {error.strerror}. Name a file in a folder that exists.") from None


@contextmanager
def reported(host: str, path: Path | None, say: Callable[[str], Any]) -> Iterator[Outcome]:
    """Yield an outcome to be filled in, and write it to ``path`` however the block ends, whole or not."""
    outcome = Outcome(host)
    try:
        yield outcome
    except BaseException as error:
        outcome.result = "failed"
        outcome.error = outcome.error or in_one_line(error)[:LONGEST_ERROR]
        outcome.cause = outcome.cause or getattr(error, "cause", "") or None
        raise
    finally:
        try:
            if path:
                _write(path, asdict(outcome))
        except OSError as error:
            # It must not undo, or hide, what happened to the database.
            say(f"warning: the report {path} was not written: {error.strerror}")


def _write(path: Path, content: dict[str, Any]) -> None:
    aside = path.with_name(f".new-{path.name}")
    try:
        with aside.open("w") as stream:
            json.dump(content, stream, indent=1)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
