"""Which release serves, which served before it, and what an unproved swap would go back to."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy import files
from deploy.host import Host


@dataclass(frozen=True)
class Unproved:
    """A swap that ValidateService has not confirmed yet, and what the pointers were before it."""

    digest: str
    current: str | None
    previous: str | None


class Pointers:
    """The symbolic links ``current`` and ``previous``, and state/unproved.json."""

    def __init__(self, host: Host) -> None:
        self._current = host.home / "current"
        self._previous = host.home / "previous"
        self._unproved = host.state / "unproved.json"

    @property
    def current(self) -> str | None:
        return _target(self._current)

    @property
    def previous(self) -> str | None:
        return _target(self._previous)

    @property
    def unproved(self) -> Unproved | None:
        """The unconfirmed swap, if there is one; what it says of itself is written before it happens."""
        try:
            return Unproved(**json.loads(self._unproved.read_text()))
        except FileNotFoundError:
            return None

    def move_to(self, digest: str) -> None:
        """Make ``digest`` current and the last release that was proved previous. Safe to repeat."""
        unproved = self.unproved
        if unproved is None and self.current == digest:
            return
        if unproved is None:
            unproved = Unproved(digest, self.current, self.previous)
        if digest == unproved.current:
            # Back to the one that was proved: nothing is left to prove.
            self._write(unproved.current, unproved.previous)
            self.confirm()
            return
        # A release that was never confirmed is not one to go back to.
        record = Unproved(digest, unproved.current, unproved.previous)
        files.write_text(self._unproved, json.dumps(asdict(record)) + "\n")
        self._write(digest, record.current)

    def confirm(self) -> None:
        """The current release has proved itself."""
        self._unproved.unlink(missing_ok=True)
        files.sync_folder(self._unproved.parent)

    def put_back(self, unproved: Unproved) -> None:
        """Undo an unconfirmed swap."""
        self._write(unproved.current, unproved.previous)
        self.confirm()

    def _write(self, current: str | None, previous: str | None) -> None:
        if previous != self.previous:
            files.point(self._previous, previous and f"releases/{previous}")
        if current != self.current:
            files.point(self._current, current and f"releases/{current}")


def _target(link: Path) -> str | None:
    try:
        return link.readlink().name
    except FileNotFoundError:
        return None
