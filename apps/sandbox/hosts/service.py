"""Service units: start, readiness, unexpected ends and restarts, stop."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import EXIT_CHDIR, EXIT_NAMESPACE, Command, ServiceConfig
from .environment import expand, find_program, service_environment
from .names import UnitName
from .notify import NotifySocket
from .process import Credentials, ExecFailed, Spawn, processes_with, send_signal
from .unit import Unit, UnitFailure

if TYPE_CHECKING:
    from .manager import Manager

# Ends that are no failure whatever SuccessExitStatus= says (systemd.service(5)).
_CLEAN = frozenset({0, -signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM, -signal.SIGPIPE})


class ServiceUnit(Unit):
    """A .service of Type simple, exec, notify or oneshot."""

    config: ServiceConfig

    def __init__(self, manager: Manager, name: UnitName, config: ServiceConfig) -> None:
        super().__init__(manager, name, config)
        self.main_pid = 0
        self.exit_status: int | None = None
        self.status_text = ""
        self.restarts = 0
        self.invocation = ""
        self._env: dict[str, str] = {}
        self._credentials: Credentials | None = None
        self._main: asyncio.Future[int] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._notify: NotifySocket | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run ExecStartPre and ExecStart and wait until the service is ready. Raises UnitFailure."""
        if self.active == "active":
            return
        if self.active == "deactivating" and self._watch is not None:
            await asyncio.wait({self._watch})  # it is still cleaning up after an unexpected end
        self._cancel_watch()
        try:
            if not self.conditions_hold():
                return
            self.check_start_limit()
        except UnitFailure as failure:
            self.log(str(failure))
            self.set_state("failed", "failed", failure.result)
            self.manager.service_failed(self)
            raise
        try:
            self.set_state("activating", "start-pre", "success")
            self.log(f"Starting {self.description}...")
            await self._bring_up()
        except UnitFailure as failure:
            self.log(str(failure))
            await self._tear_down(failure.result)
            raise

    async def stop(self) -> None:
        """Stop all processes, the main one first; nothing is restarted."""
        self._cancel_watch()
        if self.active in {"inactive", "failed"}:
            return
        if self.sub == "auto-restart":
            self.set_state("inactive", "dead")
            return
        self.log(f"Stopping {self.description}...")
        self.set_state("deactivating", "stop")
        result = "success"
        if self._main is not None and self.config.stop:
            result = await self._run_stop(self.config.stop)
        if not await self._end_processes():
            result = "timeout"
        if self._main is not None and self._main.done() and not self._clean(self._main.result()):
            result = result if result != "success" else self._result_of(self._main.result())
        await self._finish(result)
        self.log(f"Stopped {self.description}.")

    def properties(self) -> dict[str, str]:
        status = self.exit_status
        return super().properties() | {
            "Type": self.config.type,
            "Restart": self.config.restart,
            "NotifyAccess": self.config.notify_access,
            "MainPID": str(self.main_pid),
            "ExecMainPID": str(self.main_pid),
            "ExecMainCode": "0" if status is None else "1" if status >= 0 else "2",
            "ExecMainStatus": str(abs(status or 0)),
            "NRestarts": str(self.restarts),
            "StatusText": self.status_text,
            "InvocationID": self.invocation,
            "Sockets": " ".join(self.config.sockets),
        }

    # Bringing up

    async def _bring_up(self) -> None:
        self.invocation = uuid.uuid4().hex
        self.main_pid, self.exit_status, self.status_text = 0, None, ""
        self._credentials = Credentials.find(self.config.user, self.config.group, self.config.supplementary)
        for path in self.config.needed_paths:
            if not path.exists():
                raise UnitFailure(
                    "exit-code", f"ReadWritePaths={path} is missing (status={EXIT_NAMESPACE}/NAMESPACE)"
                )
        self._make_directories()
        env = service_environment(
            self.config, self.manager.layout, self.manager.environment, self._credentials
        )
        self._env = env | {"INVOCATION_ID": self.invocation}
        timeout = None if self.config.timeout_start == float("inf") else self.config.timeout_start
        try:
            await asyncio.wait_for(self._start_commands(), timeout)
        except TimeoutError:
            raise UnitFailure("timeout", "Start operation timed out. Terminating.") from None
        if self.config.type == "oneshot" and not self.config.remain_after_exit:
            await self._finish("success")
            self.log(f"Finished {self.description}.")
            return
        self.set_state("active", "exited" if self.config.type == "oneshot" else "running")
        self.log(f"Started {self.description}.")
        if self.config.type != "oneshot":
            self._watch = asyncio.create_task(self._watch_main())

    async def _start_commands(self) -> None:
        await self._run_all(self.config.start_pre)
        self.set_state("activating", "start")
        if self.config.type == "oneshot":
            await self._run_all(self.config.start, main=True)
        else:
            await self._start_main(self.config.start[0])
        if self.config.start_post:
            self.set_state("activating", "start-post")
            await self._run_all(self.config.start_post)

    async def _start_main(self, command: Command) -> None:
        loop = asyncio.get_running_loop()
        env = dict(self._env)
        if self.config.type == "notify" or self.config.notify_access != "main":
            self._ready = loop.create_future()
            self._notify = NotifySocket(self._notified)
            env["NOTIFY_SOCKET"] = self._notify.address
        self.main_pid, self._main = self._spawn(command, env, sockets=True)
        if self.config.type == "notify" and self._ready is not None:
            ends: set[asyncio.Future[Any]] = {self._main, self._ready}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not self._ready.done():
                status = self._main.result()
                self._note_exit(status)
                clean = self._clean(status)
                raise UnitFailure(
                    "protocol" if clean else self._result_of(status),
                    f"Main process ended ({_end(status)}) before it said READY=1.",
                )

    async def _run_all(self, commands: tuple[Command, ...], main: bool = False) -> None:
        for command in commands:
            try:
                pid, end = self._spawn(command, self._env, sockets=main)
                if main:
                    self.main_pid, self._main = pid, end
                status = await asyncio.shield(end)
            except UnitFailure:
                if command.ignore_failure:
                    continue
                raise
            if main:
                self.main_pid, self._main, self.exit_status = 0, None, status
            if not self._clean(status) and not command.ignore_failure:
                raise UnitFailure(
                    self._result_of(status), f"{command.argv[0]}: process ended ({_end(status)})."
                )

    def _spawn(
        self, command: Command, env: dict[str, str], sockets: bool = False
    ) -> tuple[int, asyncio.Future[int]]:
        argv = expand(command, env)
        argv = (find_program(argv[0], env), *argv[1:])
        stdout = self._open_output(self.config.stdout, None)
        stderr = self._open_output(self.config.stderr, stdout)
        cwd, optional = self.config.working_directory
        spec = Spawn(
            argv=argv,
            env=env,
            cwd=cwd,
            cwd_optional=optional,
            umask=self.config.umask,
            stdout=stdout,
            stderr=stderr,
            credentials=self._credentials,
            sockets=tuple(self.manager.sockets_for(self)) if sockets else (),
            limits=tuple(self._limits()),
        )
        try:
            return self.manager.children.start(spec)
        except ExecFailed as error:
            name = "CHDIR" if error.status == EXIT_CHDIR else "EXEC"
            self.exit_status = error.status
            raise UnitFailure("exit-code", f"{argv[0]}: {error} (status={error.status}/{name})") from None
        finally:
            os.close(stdout)
            if stderr != stdout:
                os.close(stderr)

    def _open_output(self, where: str, other: int | None) -> int:
        if where == "inherit" and other is not None:
            return other
        kind, _, path = where.partition(":")
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if kind == "truncate" else os.O_APPEND)
        try:
            if where == "null" or (where == "inherit" and other is None):
                return os.open("/dev/null", os.O_WRONLY)
            return os.open(path or self.journal, flags, 0o600)
        except OSError as error:
            raise UnitFailure(
                "exit-code", f"cannot open {path}: {error.strerror} (status=209/STDOUT)"
            ) from None

    def _limits(self) -> list[tuple[int, tuple[int, int]]]:
        found = []
        for key, text in self.config.limits.items():
            soft, _, hard = text.partition(":")
            numbers = [
                resource.RLIM_INFINITY if part == "infinity" else int(part) for part in (soft, hard or soft)
            ]
            number = {"LimitNOFILE": resource.RLIMIT_NOFILE, "LimitCORE": resource.RLIMIT_CORE}[key]
            highest = resource.getrlimit(number)[1]
            if os.geteuid() != 0 and highest != resource.RLIM_INFINITY:
                numbers = [min(value, highest) if value >= 0 else highest for value in numbers]
            found.append((number, (numbers[0], numbers[1])))
        return found

    def _make_directories(self) -> None:
        for directory in self.config.directories:
            directory.path.mkdir(parents=True, exist_ok=True)
            directory.path.chmod(directory.mode)
            if self._credentials:
                os.chown(directory.path, self._credentials.uid, self._credentials.gid)

    def _notified(self, pid: int, fields: dict[str, str]) -> None:
        access = self.config.notify_access
        if access == "none" or (access in {"main", "exec"} and pid != self.main_pid):
            return
        if access == "all" and pid not in processes_with("INVOCATION_ID", self.invocation):
            return
        self.status_text = fields.get("STATUS", self.status_text)
        if fields.get("READY") == "1" and self._ready and not self._ready.done():
            self._ready.set_result(None)

    # Ending

    async def _watch_main(self) -> None:
        if self._main is None:
            return
        status = await asyncio.shield(self._main)
        self._note_exit(status)
        await self._tear_down("success" if self._clean(status) else self._result_of(status))

    async def _tear_down(self, result: str) -> None:
        """The service ended by itself or never came up: clean up, then fail, rest or try again."""
        # An exit by itself with success and Restart=always has to be told from a stop that was asked for.
        self.set_state("deactivating", "stop-sigterm", result)
        await self._end_processes()
        status = self.exit_status
        await self._finish(result, quiet=True)
        if self._wants_restart(result, status):
            self.set_state("activating", "auto-restart", result)
            self._watch = asyncio.create_task(self._restart_later())
        elif result == "success":
            self.set_state("inactive", "dead", result)
        else:
            self.set_state("failed", "failed", result)
            self.manager.service_failed(self)

    async def _restart_later(self) -> None:
        await asyncio.sleep(self.config.restart_sec)
        self.restarts += 1
        self.log(f"Scheduled restart job, restart counter is at {self.restarts}.")
        self._watch = None
        self.manager.auto_restart(self)

    def _wants_restart(self, result: str, status: int | None) -> bool:
        if status is not None and status in self.config.no_restart_status:
            return False
        on: dict[str, frozenset[str]] = {
            "no": frozenset(),
            "on-success": frozenset({"success"}),
            "on-failure": frozenset({"exit-code", "signal", "core-dump", "timeout", "protocol", "resources"}),
            "on-abnormal": frozenset({"signal", "core-dump", "timeout"}),
            "on-abort": frozenset({"signal", "core-dump"}),
        }
        return self.config.restart == "always" or result in on[self.config.restart]

    async def _end_processes(self) -> bool:
        """TERM as KillMode= says, then KILL what is left; False if TimeoutStopSec passed before."""
        if self.main_pid and self._main is not None and not self._main.done():
            send_signal(self.main_pid, self.config.kill_signal)
        for pid in self._members() if self.config.kill_mode == "control-group" else ():
            if pid != self.main_pid:
                send_signal(pid, self.config.kill_signal)
        timeout = None if self.config.timeout_stop == float("inf") else self.config.timeout_stop
        in_time = True
        try:
            await asyncio.wait_for(self._ended(), timeout)
        except TimeoutError:
            in_time = False
            self.log("State 'stop-sigterm' timed out. Killing.")
        await self._kill_rest(in_time)
        return in_time

    async def _kill_rest(self, in_time: bool) -> None:
        while self.config.kill_mode != "process" and (members := self._members()):
            for pid in members:
                send_signal(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)
        if self._main is not None:
            if not in_time:
                send_signal(self.main_pid, signal.SIGKILL)
            self._note_exit(await asyncio.shield(self._main))

    async def _ended(self) -> None:
        if self._main is not None:
            await asyncio.shield(self._main)
        # The other modes kill what the main process leaves behind at once.
        while self.config.kill_mode == "control-group" and self._members():
            await asyncio.sleep(0.02)

    def _members(self) -> list[int]:
        return processes_with("INVOCATION_ID", self.invocation) if self.invocation else []

    async def _run_stop(self, commands: tuple[Command, ...]) -> str:
        timeout = None if self.config.timeout_stop == float("inf") else self.config.timeout_stop
        self._env["MAINPID"] = str(self.main_pid)
        try:
            await asyncio.wait_for(self._run_all(commands), timeout)
        except TimeoutError:
            return "timeout"
        except UnitFailure as failure:
            self.log(str(failure))
            return failure.result
        return "success"

    async def _finish(self, result: str, quiet: bool = False) -> None:
        if self.config.stop_post and self._env:
            self._env["SERVICE_RESULT"] = result
            post = await self._run_stop(self.config.stop_post)
            result = post if result == "success" else result
            await self._end_processes()
        if self._notify:
            self._notify.close()
        self._notify = self._ready = self._main = None
        self.main_pid = 0
        for directory in self.config.directories:
            if directory.remove:
                shutil.rmtree(directory.path, ignore_errors=True)
        if not quiet:
            active, sub = ("inactive", "dead") if result == "success" else ("failed", "failed")
            self.set_state(active, sub, result)

    def _cancel_watch(self) -> None:
        if self._watch is not None and self._watch is not asyncio.current_task():
            self._watch.cancel()
        self._watch = None

    def _note_exit(self, status: int) -> None:
        self.exit_status = status
        if not self._clean(status):
            self.log(f"Main process exited, {_end(status)}")

    def _clean(self, status: int) -> bool:
        return status in _CLEAN or status in self.config.success_status

    @staticmethod
    def _result_of(status: int) -> str:
        if status >= 0:
            return "exit-code"
        return (
            "core-dump"
            if -status in {signal.SIGQUIT, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS}
            else "signal"
        )


def _end(status: int) -> str:
    if status >= 0:
        return f"code=exited, status={status}"
    return f"code=killed, status={-status}/{signal.Signals(-status).name.removeprefix('SIG')}"


def journal_tail(path: Path, lines: int) -> str:
    """The last lines of a unit's journal, as it stands."""
    try:
        return "".join(path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-lines:])
    except FileNotFoundError:
        return ""
