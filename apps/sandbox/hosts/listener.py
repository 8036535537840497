"""Socket units: the supervisor holds the listening socket, services inherit it."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import stat
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from .config import SocketConfig
from .names import UnitName
from .unit import Unit, UnitFailure

if TYPE_CHECKING:
    from .manager import Manager


class SocketUnit(Unit):
    """A .socket with Accept=no."""

    config: SocketConfig

    def __init__(self, manager: Manager, name: UnitName, config: SocketConfig) -> None:
        super().__init__(manager, name, config)
        self.sockets: list[socket.socket] = []
        self._polling = False
        self._triggers: deque[float] = deque()

    async def start(self) -> None:
        """Bind and listen. Raises UnitFailure, among others if the service it activates runs already."""
        if self.active == "active":
            return
        self.check_start_limit()
        service = self.manager.loaded(self.config.service)
        # As systemd does: a running service would never be handed the new socket.
        if service and service.active in {"active", "activating"} and service.sub != "auto-restart":
            self._fail("resources", f"Socket service {self.config.service} already active, refusing.")
        if not self.conditions_hold():
            return
        try:
            for address in self.config.listen:
                self.sockets.append(self._listen(address))
        except OSError as error:
            self._close()
            self._fail("resources", f"Failed to listen on {address}: {error.strerror or error}")
        self.log(f"Listening on {self.description} ({', '.join(self.config.listen)}).")
        self.set_state("active", "listening", "success")

    async def stop(self) -> None:
        """Close the sockets; those that a service has inherited stay open there."""
        if self.active != "active":
            return
        self._close()
        self.log(f"Closed {self.description}.")
        self.set_state("inactive", "dead", "success")

    def reconsider(self) -> None:
        """Wait for connections only while none of the services that this socket can reach is up.

        systemd counts every service that names the socket in Sockets=, not just its Service=: so no further
        one is started as long as any of them is running.
        """
        wanted = self.active == "active" and not self._service_up()
        if self.active == "active":
            self.sub = "listening" if wanted else "running"
        if wanted == self._polling:
            return
        loop = asyncio.get_running_loop()
        for sock in self.sockets:
            if wanted:
                loop.add_reader(sock, self._triggered)
            else:
                loop.remove_reader(sock)
        self._polling = wanted

    def held_by_service(self) -> bool:
        """Whether a running service has a TCP socket of this unit open, so that it cannot be bound again."""
        tcp = any(not address.startswith("/") for address in self.config.listen)
        return self.active == "active" and tcp and self._service_up()

    def _service_up(self) -> bool:
        reached = [self.manager.loaded(self.config.service), *self.manager.services_of(self.id)]
        return any(unit and unit.busy for unit in reached)

    def service_failed(self, result: str) -> None:
        """The activated service cannot be started at all: close the port instead of trying for ever."""
        if self.active == "active" and result == "start-limit-hit":
            self._close()
            self.log(f"{self.config.service} hit its start limit; closing.")
            self.set_state("failed", "failed", "service-start-limit-hit")

    def properties(self) -> dict[str, str]:
        return super().properties() | {
            "Listen": " ".join(f"{address} (Stream)" for address in self.config.listen),
            "Triggers": self.config.service,
            "Accept": "no",
        }

    def _fail(self, result: str, message: str) -> None:
        self.log(message)
        self.set_state("failed", "failed", result)
        raise UnitFailure(result, message)

    def _triggered(self) -> None:
        now = time.monotonic()
        while self._triggers and self._triggers[0] < now - self.config.trigger_interval:
            self._triggers.popleft()
        self._triggers.append(now)
        if self.config.trigger_interval and len(self._triggers) > self.config.trigger_burst:
            self._close()
            self.log("Trigger limit hit, refusing further activation.")
            self.set_state("failed", "failed", "trigger-limit-hit")
            return
        self.log(f"Connection arrived, starting {self.config.service}.")
        self.manager.activate(self.config.service)

    def _close(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self.sockets:
            loop.remove_reader(sock)
            sock.close()
        self._polling = False
        self.sockets = []
        if self.config.remove_on_stop:
            for address in self.config.listen:
                if address.startswith("/"):
                    Path(address).unlink(missing_ok=True)

    def _listen(self, address: str) -> socket.socket:
        sock = self._bind_unix(Path(address)) if address.startswith("/") else self._bind_tcp(address)
        sock.setblocking(False)
        sock.listen(self.config.backlog)
        return sock

    def _bind_unix(self, path: Path) -> socket.socket:
        path.parent.mkdir(parents=True, exist_ok=True, mode=self.config.directory_mode)
        if os.path.lexists(path):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise OSError(None, "exists and is not a socket")
            path.unlink()
        sock = socket.socket(socket.AF_UNIX)
        directory = os.open(path.parent, os.O_PATH)
        try:
            # An address holds 107 bytes; through a descriptor the folder may be as deep as it likes.
            direct = os.fsencode(path)
            sock.bind(direct if len(direct) < 108 else f"/proc/self/fd/{directory}/{path.name}")
            path.chmod(self.config.socket_mode)
            self._chown(path)
        except OSError:
            sock.close()
            raise
        finally:
            os.close(directory)
        return sock

    def _chown(self, path: Path) -> None:
        user, group = self.config.owner
        if os.geteuid() != 0:
            return
        try:
            uid = pwd.getpwnam(user).pw_uid if user else -1
            gid = grp.getgrnam(group).gr_gid if group else -1
        except KeyError:
            return  # as for User=: a sandbox host has no accounts of its own
        os.chown(path, uid, gid)

    def _bind_tcp(self, address: str) -> socket.socket:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        # A bare port means every address, over IPv6 too where the machine has it.
        dual = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
        sock = socket.socket(family)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.config.reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self.config.keep_alive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self.config.no_delay:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
            sock.bind((host or ("::" if dual else "0.0.0.0"), int(port)))
        except (OSError, OverflowError) as error:
            sock.close()
            raise OSError(getattr(error, "errno", None), str(error)) from None
        return sock
