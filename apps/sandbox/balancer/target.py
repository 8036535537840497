"""One target of one target group: its health, checked while it is registered, and its connections."""

import asyncio
import contextlib
from dataclasses import dataclass

from .config import Address, Check
from .forward import Connection


@dataclass(frozen=True)
class Health:
    """What DescribeTargetHealth says of a target; the words are AWS's."""

    state: str
    reason: str | None = None
    description: str | None = None


REGISTERED = Health("initial", "Elb.RegistrationInProgress", "Target registration is in progress")
CHECKING = Health("initial", "Elb.InitialHealthChecking", "Initial health checks in progress")
HEALTHY = Health("healthy")
DRAINING = Health("draining", "Target.DeregistrationInProgress", "Target deregistration is in progress")
NOT_REGISTERED = Health("unused", "Target.NotRegistered", "Target is not registered to the target group")
NOT_IN_USE = Health(
    "unused", "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer"
)
STOPPED = Health("unused", "Target.InvalidState", "Target is in the stopped state")


class Target:
    """A target. All of it belongs to the balancer's thread."""

    def __init__(self, address: Address, check: Check) -> None:
        self.address = address
        self.check = check
        self.health = REGISTERED
        self.connections: set[Connection] = set()
        self.drained_at: float | None = None  # loop time at which a deregistered target is forgotten
        self._failed = self._passed = 0
        self._checking: asyncio.Task[None] | None = None

    def observe(self, check: Check) -> None:
        """Begin to check, or go on with other settings."""
        if self._checking is None or check != self.check:
            self.rest(CHECKING if self._checking is None else self.health)
            self.check = check
            self._checking = asyncio.create_task(self._observe())

    def rest(self, health: Health) -> None:
        """Check no more; the reason is what it is from now on."""
        if self._checking:
            self._checking.cancel()
            self._checking = None
        self._failed = self._passed = 0
        self.health = health

    def cut(self) -> None:
        for connection in list(self.connections):
            connection.cut()

    async def _observe(self) -> None:
        while True:
            failure = await self._fails()
            if failure is None:
                self._passed, self._failed = self._passed + 1, 0
                # The first check after registration decides at once, as AWS has it.
                if self.health.state == "initial" or self._passed >= self.check.healthy:
                    self.health = HEALTHY
            else:
                self._passed, self._failed = 0, self._failed + 1
                if self.health.state == "unhealthy" or self._failed >= self.check.unhealthy:
                    self.health = failure
            await asyncio.sleep(self.check.interval)

    async def _fails(self) -> Health | None:
        """Check once; return what is wrong, or None."""
        if not self.address.host:
            description = f"{self.address.id} is not an address of this machine"
            return _unhealthy("Target.FailedHealthChecks", description)
        try:
            async with asyncio.timeout(self.check.timeout):
                return await self._check_once()
        except TimeoutError:
            return _unhealthy("Target.Timeout", "Request timed out")
        except (OSError, ValueError):
            return _unhealthy("Target.FailedHealthChecks", "Health checks failed")

    async def _check_once(self) -> Health | None:
        port = self.check.port or self.address.port
        reader, writer = await asyncio.open_connection(self.address.host, port)
        try:
            if self.check.protocol != "HTTP":
                return None
            writer.write(
                f"GET {self.check.path} HTTP/1.1\r\nHost: {self.address.host}:{port}\r\n"
                "User-Agent: ELB-HealthChecker/2.0\r\nConnection: close\r\n\r\n".encode()
            )
            status = int((await reader.readline()).split()[1])
        except IndexError:
            raise ValueError("no status line") from None
        finally:
            with contextlib.suppress(OSError):
                writer.close()
        if self.check.accepts(status):
            return None
        return _unhealthy("Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{status}]")


def _unhealthy(reason: str, description: str) -> Health:
    return Health("unhealthy", reason, description)
