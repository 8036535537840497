"""Clients that ask without pause and write down every failure and every wait."""

import http.client
import threading
import time
from dataclasses import dataclass, field
from typing import Self

PAUSE_S = 0.005  # of each client between two requests: two cores are shared with the servers
BODY = b"x" * 2000


@dataclass
class Kind:
    """What one kind of client saw; waits are in seconds."""

    method: str
    keep_alive: bool
    requests: int = 0
    longest_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return f"{self.method} {'with' if self.keep_alive else 'without'} keep-alive"

    def note(self, waited_s: float, problem: str | None) -> None:
        with self.lock:
            self.requests += 1
            self.longest_s = max(self.longest_s, waited_s)
            if problem:
                self.failures.append(problem)


class Load:
    """Load on one address while the block runs: ``clients`` of each kind. This machine and its hosts only."""

    def __init__(
        self, port: int, *, address: str = "127.0.0.1", clients: int = 2, path: str = "/version"
    ) -> None:
        self.address = address
        self.port = port
        self.path = path
        self.kinds = [Kind(method, keep) for method in ("GET", "POST") for keep in (True, False)]
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(kind,), daemon=True)
            for kind in self.kinds
            for _ in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(timeout=60)

    @property
    def requests(self) -> int:
        return sum(kind.requests for kind in self.kinds)

    @property
    def failures(self) -> list[str]:
        return [f"{kind.name}: {failure}" for kind in self.kinds for failure in kind.failures]

    @property
    def longest_s(self) -> float:
        return max(kind.longest_s for kind in self.kinds)

    def _client(self, kind: Kind) -> None:
        connection = http.client.HTTPConnection(self.address, self.port, timeout=30)
        headers = {} if kind.keep_alive else {"Connection": "close"}
        while not self._end.is_set():
            began = time.monotonic()
            problem = None
            try:
                # After "Connection: close" the next request goes on a new connection, as HTTP says. One that
                # is cut without that is a failed request; nothing is sent twice.
                connection.request(kind.method, self.path, BODY if kind.method == "POST" else None, headers)
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    problem = f"status {response.status}"
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
                connection.close()
            kind.note(time.monotonic() - began, problem)
            time.sleep(PAUSE_S)
        connection.close()
