"""Running the scripts of a lifecycle event as the agent does."""

from __future__ import annotations

import errno
import getpass
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO

from apps.sandbox.hosts.supervisor import HOST_VARIABLE
from apps.specs.appspec import AppSpec, Script

_LOG_LIMIT = 2048
# sudo gives a script little of the agent's environment; by HOST_VARIABLE a host finds its processes.
_KEPT_BY_SUDO = ("PATH", "HOME", "LANG", HOST_VARIABLE)
# For how long a script may ignore TERM. The agent waits until it ends, and no deployment reaches the host.
HANG_SECONDS = 60.0
# What makes Ruby hand a command to a shell.
_SHELL_CHARACTERS = frozenset("*?{}[]<>()~&|\\$;'`\"\n#=%")


class ScriptError(Exception):
    """A script did not do its work; code is CodeDeploy's word for how."""

    def __init__(self, code: str, script: str, message: str, log: str) -> None:
        super().__init__(message)
        self.code = code
        self.script = script
        self.log = log


class _Late(Exception):
    """A script did not end in time; code as in ScriptError, the message is the end of its sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Aborted(Exception):
    """The host went down while a script ran."""


class ScriptLog:
    """The log tail of diagnostics: the last whole lines that are shorter than 2,048 characters together."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def append(self, line: str) -> None:
        """Add a line; one that is too long by itself empties the log."""
        self._lines.append(line)
        left = _LOG_LIMIT
        kept = 0
        for text in reversed(self._lines):
            left -= len(text)
            if left <= 0:
                break
            kept += 1
        self._lines = self._lines[len(self._lines) - kept :]

    def __str__(self) -> str:
        return "".join(self._lines)


class HookRunner:
    """Runs the scripts of one deployment's events on one host."""

    def __init__(
        self,
        environment: Mapping[str, str],
        alive: Callable[[], bool],
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        """environment is what every hook gets; alive says whether the host is still up."""
        self._environment = dict(environment)
        self._alive = alive
        self._hang_seconds = hang_seconds

    def run(self, event: str, appspec: AppSpec, archive: Path, logs: Path) -> str:
        """Run the event's scripts from an archive, in order; return the log's tail.

        logs is a folder of the deployment under way, whichever deployment the archive is from.
        Raises ScriptError at the first that fails, Aborted if the host went down.
        """
        scripts = appspec.hooks.get(event, ())
        if not scripts:
            return ""
        logs.mkdir(exist_ok=True)
        writer = _Writer(logs / "scripts.log")
        try:
            writer.write(f"LifecycleEvent - {event}\n")
            for script in scripts:
                self._run_script(event, script, archive, writer)
        finally:
            writer.close()
        return str(writer.log)

    def _run_script(self, event: str, script: Script, archive: Path, writer: _Writer) -> None:
        # Joined as texts, so that a leading "/" stays inside the archive.
        path = Path(f"{archive}/{script.location}")

        def error(code: str, message: str) -> ScriptError:
            return ScriptError(code, script.location, message, str(writer.log))

        if not path.exists():
            place = os.path.abspath(path)  # noqa: PTH100 (Path.absolute keeps "..")
            raise error("ScriptMissing", f"Script does not exist at specified location: {place}")
        if not os.access(path, os.X_OK) or not path.stat().st_mode & 0o111:
            try:
                path.chmod(path.stat().st_mode | 0o111)
            except OSError:
                raise error(
                    "ScriptNotExecutable",
                    f"Unable to set script at specified location: {script.location} as executable",
                ) from None
        writer.write(f"Script - {script.location}\n")
        who = f" run as user {script.runas}" if script.runas else ""
        beginning = f"Script at specified location: {script.location}"
        try:
            process = self._start(event, script, path)
        except OSError as problem:
            kind = f"Errno::{errno.errorcode[problem.errno]} with message " if problem.errno else ""
            raise error(
                "ScriptFailed",
                f"{beginning}{who} failed with error {kind}{problem.strerror} - {problem.filename or path}",
            ) from None
        try:
            self._wait(process, script.timeout, writer)
        except _Late as late:
            raise error(late.code, f"{beginning} {late}") from None
        except Aborted:
            _signal_group(process, signal.SIGKILL)
            raise
        if process.returncode != 0:
            # A script that was killed by a signal has no exit code, and the agent then writes none.
            status = process.returncode if process.returncode > 0 else ""
            raise error("ScriptFailed", f"{beginning}{who} failed with exit code {status}")

    def _start(self, event: str, script: Script, path: Path) -> subprocess.Popen[bytes]:
        argv = self._command(script, path)
        environment = {**self._environment, "LIFECYCLE_EVENT": event}
        if script.sudo:
            environment = {name: environment[name] for name in _KEPT_BY_SUDO if name in environment}
        try:
            return _popen(argv, environment)
        except OSError as problem:
            if problem.errno != errno.ENOEXEC:
                raise
            # Without a #! line, Ruby hands the script to a shell.
            return _popen(["/bin/sh", *argv], environment)

    @staticmethod
    def _command(script: Script, path: Path) -> list[str]:
        """The agent makes one text of it, which Ruby splits at spaces: a location with one names no program.

        `sudo` itself is left out, since it would change to the user that the agent already is.
        """
        argv = [str(path)]
        if script.runas and os.geteuid() == 0:
            argv = ["su", script.runas, "-c", str(path)]
        elif script.runas and script.runas not in {"root", getpass.getuser()}:
            raise OSError(None, f"runas {script.runas} needs a sandbox that runs as root")
        # Only what the appspec says is looked at: the host's own folder may be called anything.
        if _SHELL_CHARACTERS & set(script.location):
            return ["/bin/sh", "-c", " ".join(argv)]
        if any(character.isspace() for character in script.location):
            return " ".join(argv).split()
        return argv

    def _wait(self, process: subprocess.Popen[bytes], timeout: float, writer: _Writer) -> None:
        """Wait for the script and for the end of its output. Raises _Late, and Aborted.

        A child in the background that still holds stdout or stderr counts, so redirect all three descriptors
        of one. It is left alone; a script that has not ended is ended.
        """
        readers = {
            label: threading.Thread(target=writer.copy, args=(stream, label), daemon=True)
            for stream, label in ((process.stdout, "stdout"), (process.stderr, "stderr"))
        }
        for reader in readers.values():
            reader.start()
        deadline = time.monotonic() + timeout
        while process.poll() is None or any(reader.is_alive() for reader in readers.values()):
            if not self._alive():
                raise Aborted
            if time.monotonic() >= deadline:
                if process.poll() is None:
                    note = self._end(process)
                    raise _Late("ScriptTimedOut", f"failed to complete in {timeout} seconds{note}")
                still = [label.upper() for label, reader in readers.items() if reader.is_alive()]
                # The agent's code for this is one that the service does not have.
                raise _Late("UnknownError", f"failed to close {still[0] if still else 'STDOUT'}")
            time.sleep(0.02)

    def _end(self, process: subprocess.Popen[bytes]) -> str:
        """End a script; return what is to be said if it does not let itself be ended."""
        _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + self._hang_seconds
        while process.poll() is None:
            if not self._alive():
                raise Aborted
            if time.monotonic() >= deadline:
                _signal_group(process, signal.SIGKILL)
                process.wait()
                return (
                    ". It ignored TERM: the agent of a real host hangs until it ends. The sandbox killed it "
                    f"after {self._hang_seconds:g} seconds"
                )
            time.sleep(0.02)
        return ""


class _Writer:
    """Lines to the diagnostics and, with the time, to logs/scripts.log."""

    def __init__(self, path: Path) -> None:
        self.log = ScriptLog()
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        with self._lock:
            self.log.append(line)
            if not self._file.closed:
                self._file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}")
                self._file.flush()

    def close(self) -> None:
        # A child in the background may still hold a script's output, and a reader wait for it.
        with self._lock:
            self._file.close()

    def copy(self, stream: IO[bytes], label: str) -> None:
        with stream:
            for line in stream:
                self.write(f"[{label}]{line.decode(errors='replace')}")


def _popen(argv: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        umask=0o022,
        process_group=0,
    )


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return  # all of it has ended by itself
