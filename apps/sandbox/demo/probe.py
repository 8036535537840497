"""Requests at a front door, one after the other, for as long as something happens behind it."""

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass
class Tally:
    """What came of the requests."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    longest: float = 0.0  # seconds
    digests: set[str] = field(default_factory=set)  # of the releases that answered

    def __str__(self) -> str:
        return (
            f"{self.requests - len(self.failures)} requests were answered and {len(self.failures)} failed, "
            f"the longest took {self.longest * 1000:.0f} ms"
        )

    def saved(self) -> dict[str, Any]:
        """For result.json."""
        longest = round(self.longest * 1000, 1)
        return {"requests": self.requests, "failed": len(self.failures), "longest_ms": longest}


class Probe:
    """Asks `url`/version without end from several threads, each request on a new connection.

    It begins with the context, or if `later` when told to.
    """

    def __init__(self, url: str, threads: int = 4, pause: float = 0.02, *, later: bool = False) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._pause = pause
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(threads)]
        self._later = later
        self.tally = Tally()

    def __enter__(self) -> Self:
        if not self._later:
            self.begin()
        return self

    def begin(self) -> None:
        """Ask from now on; once is enough."""
        for thread in self._threads:
            if thread.ident is None:
                thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(30)

    def _ask(self) -> None:
        while not self._end.wait(self._pause):
            began = time.monotonic()
            failure = digest = ""
            connection = http.client.HTTPConnection(*self._address, timeout=20)
            try:
                connection.request("GET", "/version")
                response = connection.getresponse()
                body = response.read()
                if response.status == 200:
                    digest = digest_in(body)
                else:
                    failure = f"HTTP {response.status}"
            except (OSError, http.client.HTTPException, ValueError) as error:
                failure = f"{type(error).__name__}: {error}"
            finally:
                connection.close()
            with self._lock:
                self.tally.requests += 1
                self.tally.longest = max(self.tally.longest, time.monotonic() - began)
                if failure:
                    self.tally.failures.append(failure)
                else:
                    self.tally.digests.add(digest)


def digest_in(body: bytes) -> str:
    """Return the digest that an answer of /version names; ValueError where it names none."""
    answer = json.loads(body)
    if not isinstance(answer, dict) or not isinstance(answer.get("digest"), str):
        raise ValueError(f"/version says {body[:100]!r}")
    return str(answer["digest"])
