"""The balancer: a thread that keeps to what is configured, and what other threads ask of it."""

import asyncio
import concurrent.futures
import contextlib
import logging
import resource
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from .config import Configuration, Group, Listener
from .errors import BalancerError, TargetUnhealthy, UnknownTargetGroup
from .forward import Connection, Streams, reset
from .pool import Pool
from .target import Health, Target

log = logging.getLogger(__name__)

TICK = 0.5  # seconds between two looks at what nobody told us: delays that end, instances that stop
WAIT = 0.02  # seconds between two looks at a target that somebody waits for
MAX_CONNECTIONS = 1000
OPEN_FILES = 2 * MAX_CONNECTIONS + 1000  # two for each connection, and the rest of the sandbox
BACKLOG = 1024
PATIENCE = 30.0  # seconds for a target to become healthy, on top of the checks it takes

T = TypeVar("T")


class Balancer:
    """Serves what `read` says is configured, from `start()` to `close()`."""

    def __init__(self, read: Callable[[], Configuration]) -> None:
        self._read = read
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="balancer", daemon=True)
        self._pools: dict[str, Pool] = {}
        self._listeners: dict[str, Listener] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._problems: dict[str, str] = {}
        self._connections: set[Connection] = set()
        self._closing = False

    def start(self) -> None:
        allow_open_files()
        self._thread.start()
        self._ask(self._begin())

    def close(self) -> None:
        """Cut every connection and stop listening."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join()

    # Asked by other threads

    def reconcile(self) -> dict[str, str]:
        """Do now what is configured; return which listeners (ARN) cannot be, and why."""
        return self._ask(self._reconcile_soon())

    def health(self, group: str, names: list[str] | None = None) -> dict[str, Health]:
        """The health of a group's targets by id; without names of all that are registered or drain."""
        return self._ask(self._health(group, names))

    def group_named(self, name: str) -> Group:
        """Raises UnknownTargetGroup."""
        found = next((each for each in self._read().groups if each.name == name), None)
        if found is None:
            raise UnknownTargetGroup(
                f"There is no target group {name}: create it, or name another in the deployment group's "
                "loadBalancerInfo."
            )
        return found

    def wait_until_drained(self, group: str, name: str) -> None:
        """Return when a deregistered target has no connection left, or its delay is over."""
        self._ask(self._wait_until_drained(group, name))

    def wait_until_healthy(self, group: str, name: str, timeout: float | None = None) -> None:
        """Raises TargetUnhealthy when a registered target is not healthy in time."""
        self._ask(self._wait_until_healthy(group, name, timeout))

    # In the balancer's thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._finish())
            self._loop.close()

    async def _begin(self) -> None:
        self._ticker = asyncio.create_task(self._tick())

    def _end(self) -> None:
        self._closing = True
        self._loop.stop()

    async def _finish(self) -> None:
        for server in self._servers.values():
            server.close()
        for pool in self._pools.values():
            pool.close()
        for task in (left := asyncio.all_tasks() - {asyncio.current_task()}):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                await self._reconcile()
                self._cut_idle()
            except Exception:
                log.exception("the balancer could not look after its listeners; it goes on")

    async def _reconcile_soon(self) -> dict[str, str]:
        await self._reconcile()
        return dict(self._problems)

    async def _reconcile(self) -> None:
        now = self._loop.time()
        wanted = self._read()
        listeners = {each.arn: each for each in wanted.listeners}
        used = {each.group for each in wanted.listeners}
        for group in wanted.groups:
            pool = self._pools.setdefault(group.arn, Pool(group))
            pool.update(group, group.arn in used, now)
        for arn in self._pools.keys() - {each.arn for each in wanted.groups}:
            self._pools.pop(arn).close()
        for arn, listener in list(self._listeners.items()):
            if arn not in listeners or listeners[arn].port != listener.port:
                self._servers.pop(arn).close()
                del self._listeners[arn]
        self._problems = {arn: text for arn, text in self._problems.items() if arn in listeners}
        for arn, listener in listeners.items():
            if arn in self._listeners:
                self._listeners[arn] = listener
            else:
                await self._listen(listener)

    async def _listen(self, listener: Listener) -> None:
        try:
            sock = bind(listener.port)
        except OSError as error:
            problem = f"127.0.0.1:{listener.port} cannot be listened on ({error.strerror})"
            if self._problems.get(listener.arn) != problem:
                log.warning("%s: %s", listener.arn, problem)
            self._problems[listener.arn] = problem
            return
        self._problems.pop(listener.arn, None)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(listener.arn, (reader, writer))

        self._listeners[listener.arn] = listener
        self._servers[listener.arn] = await asyncio.start_server(serve, sock=sock, backlog=BACKLOG)

    async def _serve(self, arn: str, client: Streams) -> None:
        listener = self._listeners.get(arn)
        pool = self._pools.get(listener.group) if listener else None
        target = pool.choose() if pool else None
        if not listener or not target or not target.address.host or len(self._connections) >= MAX_CONNECTIONS:
            reset(client[1])
            return
        connection = Connection(client, listener.idle)
        with self._counted(connection, target):
            await connection.forward(target.address.host, target.address.port)

    @contextlib.contextmanager
    def _counted(self, connection: Connection, target: Target) -> Iterator[None]:
        self._connections.add(connection)
        target.connections.add(connection)
        try:
            yield
        finally:
            self._connections.discard(connection)
            target.connections.discard(connection)

    def _cut_idle(self) -> None:
        for connection in list(self._connections):
            connection.cut_if_idle(self._loop.time())

    async def _health(self, group: str, names: list[str] | None) -> dict[str, Health]:
        await self._reconcile()
        pool = self._pools.get(group)
        if pool is None:
            return {}
        if names is None:
            names = [*(address.id for address in pool.targets), *pool.draining]
        return {name: pool.health(name) for name in names}

    async def _wait_until_drained(self, group: str, name: str) -> None:
        await self._reconcile()
        while pool := self._pools.get(group):
            target = pool.draining.get(name)
            if target is None or not target.connections:
                return
            if target.drained_at is not None and self._loop.time() >= target.drained_at:
                return
            await asyncio.sleep(WAIT)

    async def _wait_until_healthy(self, group: str, name: str, timeout: float | None) -> None:
        await self._reconcile()
        began = self._loop.time()
        while pool := self._pools.get(group):
            health, check = pool.health(name), pool.group.check
            if health.state == "healthy":
                return
            rounds = check.healthy + check.unhealthy
            patience = PATIENCE + rounds * (check.interval + check.timeout) if timeout is None else timeout
            if health.state == "unused" or self._loop.time() - began >= patience:
                asked = f"HTTP {check.path}" if check.protocol == "HTTP" else check.protocol
                raise TargetUnhealthy(
                    f"{name} is {health.state} in target group {pool.group.name}: {health.description}. "
                    f"Look on the host at what answers its health check ({asked})."
                )
            await asyncio.sleep(WAIT)
        raise UnknownTargetGroup(f"The target group {group} was deleted meanwhile.")

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        closed = "The sandbox is being stopped, and its load balancers with it."
        if self._closing:
            work.close()
            raise BalancerError(closed)
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise BalancerError(closed) from None
        while True:
            # What was asked just when the thread ended is answered by nobody.
            concurrent.futures.wait([future], timeout=1.0)
            if future.cancelled() or (not future.done() and not self._thread.is_alive()):
                raise BalancerError(closed)
            if future.done():
                return future.result()


def bind(port: int) -> socket.socket:
    """Take a port of 127.0.0.1; OSError when it is taken."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        # Now, and not when asyncio gets to it: only listening says whether the port is ours.
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def allow_open_files() -> None:
    """Raise this process's own limit of open files to what many connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
