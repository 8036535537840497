"""Ask a release who it is: on its private socket, or through the front door."""

import http.client
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from deploy.errors import Failure

ASK_S = 5.0
PAUSE_S = 0.05


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket whose path may be longer than the 108 bytes the kernel takes."""

    def __init__(self, path: Path, host: str, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self.path = path

    def connect(self) -> None:
        folder = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{folder}/{self.path.name}")
        finally:
            os.close(folder)


@dataclass(frozen=True)
class Door:
    """A way to reach the service: ``url`` names host and port; ``private`` a release's own socket."""

    url: str
    private: Path | None = None

    def ask(self, path: str, timeout_s: float = ASK_S) -> tuple[int, object]:
        """GET ``path`` on a new connection; return the status and the JSON, None where it is none.

        Raises OSError or http.client.HTTPException when nothing answers.
        """
        parts = urlsplit(self.url)
        connection: http.client.HTTPConnection
        if self.private is not None:
            connection = UnixConnection(self.private, parts.netloc, timeout_s)
        elif parts.scheme == "https":
            connection = http.client.HTTPSConnection(parts.netloc, timeout=timeout_s)
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
        try:
            connection.request("GET", path, headers={"Connection": "close", "User-Agent": "deploy"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        try:
            return response.status, json.loads(body)
        except ValueError:
            return response.status, None

    def complaint(self, digest: str) -> str | None:
        """Why this is not the release ``digest``, ready to serve; None when it is."""
        try:
            status, about = self.ask("/version")
            if status != 200 or not isinstance(about, dict):
                return f"/version answers {status}"
            if about.get("digest") != digest:
                return f"/version says {str(about.get('digest'))[:12]} and not {digest[:12]}"
            status, readiness = self.ask("/readyz")
            if status != 200:
                reason = readiness.get("reason", "") if isinstance(readiness, dict) else ""
                return f"/readyz answers {status}{': ' if reason else ''}{reason}"
        except (OSError, http.client.HTTPException) as error:
            return f"nothing answers ({error or type(error).__name__})"
        return None

    def wait_for(
        self,
        digest: str,
        *,
        times: int,
        within_s: float,
        give_up: Callable[[], Failure | None] = lambda: None,
    ) -> None:
        """Wait until the release answers, ready, ``times`` times in a row.

        Raises Failure with the last complaint after ``within_s`` seconds, or as soon as ``give_up``
        returns why waiting is pointless.
        """
        deadline = time.monotonic() + within_s
        asked_to_give_up = time.monotonic()
        in_a_row = 0
        while True:
            complaint = self.complaint(digest)
            in_a_row = 0 if complaint else in_a_row + 1
            if in_a_row == times:
                return
            if complaint and time.monotonic() - asked_to_give_up > 1:
                asked_to_give_up = time.monotonic()
                if failure := give_up():
                    raise failure
            if complaint and time.monotonic() > deadline:
                raise Failure(f"{complaint}, {within_s:.0f} s long")
            time.sleep(PAUSE_S)
