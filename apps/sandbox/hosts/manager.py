"""All units of a host: loading, jobs with their dependencies, activation by sockets, boot and shutdown."""

from __future__ import annotations

import asyncio
import graphlib
import sys
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from .config import ServiceConfig, SocketConfig, load_config
from .listener import SocketUnit
from .names import Layout, UnitName
from .process import Children
from .service import ServiceUnit
from .unit import Job, Unit, UnitFailure
from .unitfile import UnitError

# Targets that every systemd has; a host's boot reaches them all.
BOOT_TARGETS = ("sockets.target", "basic.target", "multi-user.target", "default.target")
_TARGETS = {
    *BOOT_TARGETS, "sysinit.target", "local-fs.target", "remote-fs.target", "network.target",
    "network-online.target", "nss-lookup.target", "time-sync.target", "timers.target", "paths.target",
    "shutdown.target", "system.slice",
}  # fmt: skip


T = TypeVar("T")


class NotFound(Exception):
    """No file defines the unit."""


class Manager:
    """The units of one host."""

    def __init__(self, layout: Layout, environment: Mapping[str, str]) -> None:
        """environment reaches every unit: on a real host the instance profile plays its part."""
        self.layout = layout
        self.environment = dict(environment)
        self.children = Children()
        self.units: dict[str, Unit] = {}
        self._background: set[asyncio.Task[Any]] = set()

    # Units

    def load(self, name: UnitName) -> Unit:
        """The unit, read from its file unless it is in use.

        Raises NotFound, UnitError for a file that cannot be obeyed.
        """
        known = self.units.get(str(name))
        if known and (known.active not in {"inactive", "failed"} or known.job):
            return known
        if str(name) in _TARGETS:
            return self.units.setdefault(str(name), Unit(self, name, None))
        config = load_config(self.layout, name)
        if config is None:
            raise NotFound(f"Unit {name} not found.")
        if known:
            known.config = config
            return known
        unit: Unit
        if isinstance(config, ServiceConfig):
            unit = ServiceUnit(self, name, config)
        elif isinstance(config, SocketConfig):
            unit = SocketUnit(self, name, config)
        else:
            unit = Unit(self, name, config)
        self.units[unit.id] = unit
        return unit

    def loaded(self, name: str) -> Unit | None:
        """The unit if it is in memory, whatever its state."""
        return self.units.get(name)

    def in_use(self) -> list[Unit]:
        """Units that systemd would keep loaded: not at rest, or named by one that is not."""
        awake = [unit for unit in self.units.values() if unit.active != "inactive" or unit.job]
        named = {name for unit in awake for name in (*unit.requires, *unit.wants, *unit.after)}
        named |= {unit.config.service for unit in awake if isinstance(unit, SocketUnit)}
        return [unit for unit in self.units.values() if unit in awake or unit.id in named]

    def matching(self, pattern: str) -> list[Unit]:
        """Units in use whose name matches a shell pattern."""
        return [unit for unit in self.in_use() if fnmatchcase(unit.id, pattern)]

    def services_of(self, socket: str) -> Iterator[Unit]:
        """Services that take their descriptors from a socket by Sockets=."""
        for unit in self.units.values():
            if isinstance(unit, ServiceUnit) and socket in unit.config.sockets:
                yield unit

    def sockets_for(self, service: ServiceUnit) -> list[tuple[str, int]]:
        """Name and descriptor of every listening socket a service inherits."""
        found = []
        for unit in self.units.values():
            if isinstance(unit, SocketUnit) and (
                unit.config.service == service.id or unit.id in service.config.sockets
            ):
                found += [(unit.config.fd_name, sock.fileno()) for sock in unit.sockets]
        return found

    def reload(self) -> list[str]:
        """Read all unit files again; returns what was wrong with those that keep their old settings."""
        problems = []
        for unit in self.units.values():
            if unit.id in _TARGETS:
                continue
            try:
                unit.config = load_config(self.layout, unit.name) or unit.config
            except UnitError as error:
                problems.append(str(error))
        return problems

    # Jobs

    def start(self, names: Iterable[UnitName]) -> dict[str, asyncio.Task[str]]:
        """Queue start jobs for units and all they need; returns the jobs of the named ones.

        Raises NotFound, UnitError, before anything is started.
        """
        roots = [self.load(name) for name in names]
        closure: dict[str, Unit] = {}
        queue = list(roots)
        while queue:
            unit = queue.pop()
            if unit.id in closure:
                continue
            closure[unit.id] = unit
            queue += [self._load_dependency(unit, name) for name in unit.requires]
            for name in unit.wants:
                try:
                    queue.append(self._load_dependency(unit, name))
                except (NotFound, UnitError) as error:
                    unit.log(f"Wants={name}: {error}")
        self._check_order(closure)
        for unit in closure.values():
            self._queue_start(unit)
        return {unit.id: self._job_of(unit) for unit in roots}

    def stop(self, units: Iterable[Unit]) -> tuple[dict[str, asyncio.Task[str]], list[Unit]]:
        """Queue stop jobs for units and all that cannot do without them.

        Returns the jobs of the named ones, and every unit that was up and is stopped for it.
        """
        roots = list(units)
        closure: dict[str, Unit] = {}
        queue = list(roots)
        while queue:
            unit = queue.pop()
            if unit.id in closure:
                continue
            closure[unit.id] = unit
            queue += [other for other in self.units.values() if other.busy and _stops_with(other, unit)]
        affected = [unit for unit in closure.values() if unit.busy]
        for unit in closure.values():
            self._queue_stop(unit, closure)
        return {unit.id: self._job_of(unit) for unit in roots}, affected

    async def restart(self, names: Iterable[UnitName]) -> dict[str, str]:
        """Stop and start; units that stop along are started again too. Returns the start jobs' results."""
        names = list(names)
        roots = [self.load(name) for name in names]
        held = [unit for unit in roots if isinstance(unit, SocketUnit) and unit.held_by_service()]
        stops, affected = self.stop(roots)
        await asyncio.wait([*stops.values(), *(self._job_of(unit) for unit in affected)])
        if held:
            # Measured with systemd 252: the port is still taken, and everything behind it stays down.
            for socket in held:
                socket.log("Failed to listen: Address already in use")
                socket.set_state("failed", "failed", "resources")
            return {str(name): "failed" for name in names}
        starts = self.start([*names, *(unit.name for unit in affected if unit not in roots)])
        await asyncio.wait(starts.values())
        return {str(name): outcome(starts[str(name)]) for name in names}

    def activate(self, name: str) -> None:
        """Start a service because a connection arrived on its socket."""
        self._in_background(self._start_and_wait([UnitName.parse(name)]))

    def auto_restart(self, service: ServiceUnit) -> None:
        """Start a service again after it ended; units that are PartOf= it go down and up too."""
        parts = [unit for unit in self.units.values() if unit.busy and service.id in _part_of(unit)]
        self._in_background(self._restart_with(service, parts))

    async def _restart_with(self, service: ServiceUnit, parts: list[Unit]) -> None:
        for part in parts:
            await part.stop()
        # Somebody may have stopped the service meanwhile: that counts.
        if service.sub == "auto-restart" and service.job is None:
            await self._start_and_wait([service.name, *(unit.name for unit in parts)])

    async def _start_and_wait(self, names: list[UnitName]) -> None:
        try:
            await self._start_all(names)
        except (NotFound, UnitError) as error:
            for name in names:
                if unit := self.loaded(str(name)):
                    unit.log(str(error))
                    unit.set_state("failed", "failed", "resources")

    def service_failed(self, service: Unit) -> None:
        """Tell the sockets that activate a service that it gave up."""
        for unit in list(self.units.values()):
            if isinstance(unit, SocketUnit) and unit.config.service == service.id:
                unit.service_failed(service.result)

    def changed(self, unit: Unit) -> None:
        """A unit changed state: sockets may have to wait for connections again, or to stop doing so."""
        for other in list(self.units.values()):
            if isinstance(other, SocketUnit):
                other.reconsider()

    # Boot and shutdown

    async def boot(self, targets: Iterable[str] = BOOT_TARGETS) -> None:
        """Start everything that is enabled for the targets."""
        names: dict[str, UnitName] = {}
        for target in targets:
            for kind in ("wants", "requires"):
                for link in sorted((self.layout.units / f"{target}.{kind}").glob("*")):
                    names[link.name] = UnitName.parse(link.name)
        good = []
        for name in names.values():
            try:
                self.load(name)
                good.append(name)
            except (NotFound, UnitError) as error:
                print(f"boot: {name}: {error}", file=sys.stderr)
        try:
            await self._start_all(good)
        except (NotFound, UnitError) as error:
            print(f"boot: {error}", file=sys.stderr)
            # One unit with a missing requirement must not keep the others from starting.
            for name in good:
                await self._start_and_wait([name])

    async def _start_all(self, names: list[UnitName]) -> None:
        if jobs := self.start(names):
            await asyncio.wait(jobs.values())

    async def shutdown(self) -> None:
        """Stop every unit, those that come after others first."""
        stops, _ = self.stop([unit for unit in self.units.values() if unit.active != "inactive"])
        if stops:
            await asyncio.wait(stops.values())

    # Inside

    def _load_dependency(self, unit: Unit, name: str) -> Unit:
        try:
            return self.load(UnitName.parse(name))
        except ValueError as error:
            raise UnitError(f"{unit.id}: {error}") from None

    def _predecessors(self, unit: Unit) -> list[Unit]:
        """Units that must have finished starting before this one may begin: its After=, others' Before=."""
        return [
            other
            for other in self.units.values()
            if other is not unit
            and (other.id in unit.after or (other.config is not None and unit.id in other.config.before))
        ]

    def _check_order(self, closure: Mapping[str, Unit]) -> None:
        graph = {
            unit.id: [other.id for other in self._predecessors(unit) if other.id in closure]
            for unit in closure.values()
        }
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            raise UnitError(f"Found ordering cycle: {' -> '.join(error.args[1])}") from None

    def _queue_start(self, unit: Unit) -> None:
        if unit.job and unit.job.kind == "start":
            return
        before = unit.job.task if unit.job else None
        if unit.active == "active" and before is None:
            return
        unit.job = Job("start", asyncio.create_task(self._run_start(unit, before)))
        self._keep(unit.job.task)

    async def _run_start(self, unit: Unit, before: asyncio.Task[str] | None) -> str:
        result = "canceled"
        try:
            if before is not None:
                await asyncio.wait({before})
            if waits := {other.job.task for other in self._predecessors(unit) if other.job}:
                await asyncio.wait(waits)
            for name in unit.requires:
                required = self.loaded(name)
                if (
                    required
                    and not required.job
                    and required.last_job != "done"
                    and required.active != "active"
                ):
                    unit.log(f"Dependency failed for {unit.description}: {name}.")
                    result = "dependency"
                    return result
            await unit.start()
            result = "done"
        except UnitFailure as failure:
            unit.log(f"Failed to start {unit.description}: {failure.result}.")
            result = "failed"
        except asyncio.CancelledError:
            result = "canceled"
        finally:
            self._job_done(unit, result)
        return result

    def _queue_stop(self, unit: Unit, closure: Mapping[str, Unit]) -> None:
        if unit.job and unit.job.kind == "stop":
            return
        before = None
        if unit.job:
            before = unit.job.task
            before.cancel()
        unit.job = Job("stop", asyncio.create_task(self._run_stop(unit, before, closure)))
        self._keep(unit.job.task)

    async def _run_stop(
        self, unit: Unit, before: asyncio.Task[str] | None, closure: Mapping[str, Unit]
    ) -> str:
        if before is not None:
            await asyncio.wait({before})
        later = {
            other.job.task
            for other in closure.values()
            if other.job and other.job.kind == "stop" and unit in self._predecessors(other)
        }
        if later:
            await asyncio.wait(later)
        try:
            await unit.stop()
        finally:
            self._job_done(unit, "done")
        return "done"

    def _job_done(self, unit: Unit, result: str) -> None:
        if unit.job and unit.job.task is asyncio.current_task():
            unit.job = None
        unit.last_job = result
        self.changed(unit)

    def _job_of(self, unit: Unit) -> asyncio.Task[str]:
        if unit.job:
            return unit.job.task

        async def nothing_to_do() -> str:
            return "done"

        return self._keep(asyncio.create_task(nothing_to_do()))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        self._keep(asyncio.create_task(work))

    def _keep(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        # The loop itself holds tasks weakly only.
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def outcome(job: asyncio.Task[str]) -> str:
    """How a finished job ended; one that was replaced before it began was canceled too."""
    return "canceled" if job.cancelled() else job.result()


def _part_of(unit: Unit) -> tuple[str, ...]:
    return unit.config.part_of if unit.config else ()


def _stops_with(unit: Unit, other: Unit) -> bool:
    """Whether stopping other stops unit: it requires it, or says it is a part of it."""
    return other.id in unit.requires or other.id in _part_of(unit)
