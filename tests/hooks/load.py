"""Clients that ask without pause and write down every failure and every wait.

A wait is what a request took beyond the service's own time and beyond the client's own slowness. Nothing is
ever sent twice: a request that is cut, or answered with anything but 200, failed.
"""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

PAUSE_S = 0.005  # of each fast client between two requests: two cores are shared with the servers
BODY = b"x" * 2000
TIMEOUT_S = 30.0
SLOW_S = 1.2  # a slow client's request takes so long to be sent, and its answer to be read
LONG_S = 5.0  # what the service itself takes for a long request


@dataclass
class Kind:
    """What one kind of client saw; waits are in seconds."""

    name: str
    method: str = "GET"
    keep_alive: bool = False
    requests: int = 0
    longest_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def request(self) -> Iterator["Request"]:
        """One request: what goes wrong inside is its failure."""
        request = Request()
        problem = ""
        try:
            yield request
            problem = request.complaint()
        except (OSError, http.client.HTTPException) as error:
            problem = f"{error!r} after {time.monotonic() - request.began:.2f} s"
        with self.lock:
            self.requests += 1
            self.longest_s = max(self.longest_s, request.waited_s)
            if problem:
                self.failures.append(problem)
            else:
                self.digests.add(request.digest)


@dataclass
class Request:
    """A request under way."""

    began: float = field(default_factory=time.monotonic)
    waited_s: float = 0.0
    status: int = 0
    digest: str = ""

    def answered(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        body = response.read()
        if self.status == 200:
            self.digest = str(json.loads(body)["digest"])

    def complaint(self) -> str:
        return "" if self.status == 200 else f"status {self.status}"


class Load:
    """Load on one address while the block runs. This machine and its hosts only.

    ``clients`` fast ones of each of ``methods``, with and without keep-alive; with ``mixed`` also slow ones
    (they send and read byte by byte) and long ones (the service takes 5 s for their request).
    """

    def __init__(
        self,
        port: int,
        *,
        address: str = "127.0.0.1",
        clients: int = 2,
        path: str = "/version",
        methods: Sequence[str] = ("GET", "POST"),
        pause_s: float = PAUSE_S,
        mixed: int = 0,
        long_s: float = LONG_S,
    ) -> None:
        self.address = address
        self.port = port
        self.path = path
        self.pause_s = pause_s
        self.long_s = long_s
        self._end = threading.Event()
        self.kinds: list[Kind] = []
        self._threads: list[threading.Thread] = []
        for method in methods:
            for keep in (True, False):
                name = f"{method} {'with' if keep else 'without'} keep-alive"
                self._add(Kind(name, method, keep), self._fast, clients)
        if mixed:
            self._add(Kind("POST by a slow client", "POST"), self._slow, mixed)
            self._add(Kind(f"GET of {long_s:.0f} s in flight"), self._long, mixed)

    def _add(self, kind: Kind, client: Callable[[Kind], None], count: int) -> None:
        self.kinds.append(kind)
        self._threads += [threading.Thread(target=client, args=(kind,), daemon=True) for _ in range(count)]

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

    @property
    def digests(self) -> set[str]:
        """The releases that answered anybody."""
        return set().union(*(kind.digests for kind in self.kinds))

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, self.port, timeout=TIMEOUT_S)

    def _fast(self, kind: Kind) -> None:
        connection = self._connect()
        headers = {} if kind.keep_alive else {"Connection": "close"}
        while not self._end.is_set():
            with kind.request() as request:
                try:
                    # After "Connection: close" the next request goes on a new connection, as HTTP says. One
                    # that is cut without that is a failed request.
                    connection.request(
                        kind.method, self.path, BODY if kind.method == "POST" else None, headers
                    )
                    request.answered(connection.getresponse())
                except BaseException:
                    connection.close()
                    raise
                finally:
                    request.waited_s = time.monotonic() - request.began
            time.sleep(self.pause_s)
        connection.close()

    def _long(self, kind: Kind) -> None:
        while not self._end.is_set():
            with kind.request() as request, contextlib.closing(self._connect()) as connection:
                connection.request("GET", f"/slow?{self.long_s}", headers={"Connection": "close"})
                request.answered(connection.getresponse())
                request.waited_s = max(0.0, time.monotonic() - request.began - self.long_s)

    def _slow(self, kind: Kind) -> None:
        body = b"slowly"
        text = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.address}\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        while not self._end.is_set():
            with kind.request() as request:
                with socket.create_connection((self.address, self.port), TIMEOUT_S) as connection:
                    for byte in text:
                        connection.send(bytes([byte]))
                        time.sleep(SLOW_S / len(text))
                    sent = time.monotonic()
                    answer = connection.recv(1)
                    request.waited_s = time.monotonic() - sent
                    while byte_read := connection.recv(1):
                        answer += byte_read
                        time.sleep(SLOW_S / 400)
                head, _, content = answer.partition(b"\r\n\r\n")
                if not content:
                    raise http.client.IncompleteRead(answer)
                request.status = int(head.split(b" ", 2)[1])
                if request.status == 200:
                    request.digest = str(json.loads(content)["digest"])
