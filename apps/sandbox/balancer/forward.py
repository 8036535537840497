"""One connection: bytes from a client to a target and back, for as long as both want."""

import asyncio
import contextlib
import socket
import struct

CHUNK = 64 << 10  # bytes read at once; a side that does not take them stops the other, so no more pile up
CONNECT_SECONDS = 10.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connection:
    """A client's connection, which stays with its target."""

    def __init__(self, client: Streams, idle: float) -> None:
        self._client = client
        self._idle = idle
        self._moved = asyncio.get_running_loop().time()
        self._task = asyncio.current_task()

    def cut(self) -> None:
        """End it now; both sides see a reset."""
        if self._task:
            self._task.cancel()

    def cut_if_idle(self, now: float) -> None:
        if now - self._moved > self._idle:
            self.cut()

    async def forward(self, host: str, port: int) -> None:
        """Carry bytes until both sides have ended; a target that cannot be reached resets the client."""
        writers = [self._client[1]]
        clean = False
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                target = await asyncio.open_connection(host, port, limit=CHUNK)
            writers.append(target[1])
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(self._client[0], target[1]))
                both.create_task(self._copy(target[0], self._client[1]))
            for writer in writers:
                writer.close()
                await writer.wait_closed()
            clean = True
        except (OSError, TimeoutError, ExceptionGroup, asyncio.CancelledError):
            # A reset on one side is one on the other: an orderly end would make half an answer look whole.
            pass
        finally:
            if not clean:
                for writer in writers:
                    reset(writer)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await source.read(CHUNK):
            self._moved = loop.time()
            sink.write(data)
            await sink.drain()
            self._moved = loop.time()
        # The other direction goes on: a client may have said all and still wait for the answer.
        sink.write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the other side sees a reset, as it does with a network load balancer."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
