"""The receiving end of sd_notify(3)."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Callable


class NotifySocket:
    """One abstract datagram socket per start of a service; every message comes with its sender's pid."""

    def __init__(self, receive: Callable[[int, dict[str, str]], None]) -> None:
        """Messages go to receive(pid, fields) until close()."""
        self._receive = receive
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        # Abstract, so it needs no short path; unguessable, and the sender is checked besides.
        name = f"lockkeeper-sandbox/{secrets.token_hex(16)}"
        self._socket.bind("\0" + name)
        self.address = "@" + name
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        """Stop listening; closing twice is harmless."""
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        # Without an owner in the callback the socket may have been closed by an earlier message.
        while self._socket.fileno() >= 0:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
            except BlockingIOError:
                return
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    pid, _, _ = struct.unpack("3i", payload[: struct.calcsize("3i")])
                    lines = data.decode(errors="replace").splitlines()
                    self._receive(pid, dict(line.split("=", 1) for line in lines if "=" in line))
