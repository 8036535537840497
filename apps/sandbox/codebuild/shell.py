"""One shell for all commands of a build: variables, functions and the working directory persist.

The shell sources each command from a file and says through a FIFO how it ended. A command that ends the
shell (`exit 3`, a failing one under `set -e`, `exec`) fails with that code; the next command finds a new
shell with the exported variables and the directory that the old one left, and whatever it had started in
the background still running. Everything ends with `close`.
"""

import contextlib
import os
import select
import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from apps.sandbox.processes import ProcessTree

# $1 is the control folder, $2 the shell. Names begin with __cb so as not to meet a build's own.
_OUTER = """
while :; do
  "$2" "$1/driver.sh" "$1"
  echo "died $?" > "$1/done"
  sleep 0.1
done
"""
_DRIVER = """
__cb=$1
shift
__cb_save() {{
  {env} -0 > "$__cb/env.new"; pwd > "$__cb/cwd"; {mv} -f "$__cb/env.new" "$__cb/env"
}} 2>/dev/null
trap __cb_save EXIT
while read -r __cb_next < "$__cb/next"; do
  . "$__cb/$__cb_next" < /dev/null
  __cb_code=$?
  __cb_save
  echo "done $__cb_code" > "$__cb/done"
done
"""
# Set by the shell itself.
_OWN = {"_", "SHLVL", "PWD", "OLDPWD"}


class Interrupted(Exception):
    """A command was ended before its time: `status` is STOPPED or TIMED_OUT."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class BuildShell:
    """A running shell. Use it from one thread, which must live until `close` (see ProcessTree)."""

    def __init__(
        self,
        shell: str,
        *,
        control: Path,
        cwd: Path,
        env: dict[str, str],
        output: IO[bytes],
        stopped: threading.Event,
        deadline: float,
    ) -> None:
        """Start `shell` (a path). `deadline` is a time.monotonic() value; `stopped` ends what runs."""
        self.control, self.base_env = control, dict(env)
        self.stopped, self.deadline = stopped, deadline
        control.mkdir(parents=True)
        os.mkfifo(control / "next")
        os.mkfifo(control / "done")
        driver = _DRIVER.format(env=_program("env"), mv=_program("mv"))
        (control / "driver.sh").write_text(driver)
        # Opened for both directions, so that neither side ever sees an end of file.
        self._next = os.open(control / "next", os.O_RDWR | os.O_NONBLOCK)
        self._done = os.open(control / "done", os.O_RDWR | os.O_NONBLOCK)
        argv = ["/bin/sh", "-c", _OUTER, "sh", str(control), shell]
        self._tree = ProcessTree(argv, cwd=cwd, env=env, output=output)
        self._died = False

    def run(self, command: str) -> int:
        """Run one command and return its exit code; raise Interrupted when stopped or out of time."""
        if self._died:
            self._source("restore.sh", "".join(self._restore_lines()))
            self._died = False
        return self._source("script.sh", command + "\n")

    def environment(self) -> dict[str, str]:
        """Return the exported variables as they were after the last command."""
        try:
            text = (self.control / "env").read_bytes().decode(errors="surrogateescape")
        except FileNotFoundError:
            return self.base_env
        return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)

    def close(self) -> None:
        """End the shell and everything started in it."""
        self._tree.stop()
        for descriptor in (self._next, self._done):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _source(self, name: str, text: str) -> int:
        (self.control / name).write_text(text, errors="surrogateescape")
        with contextlib.suppress(BlockingIOError):
            while os.read(self._done, 4096):  # left by a shell that died between commands
                pass
        os.write(self._next, f"{name}\n".encode())
        message = b""
        while not message.endswith(b"\n"):
            ready, _, _ = select.select([self._done], [], [], 0.1)
            if ready:
                message += os.read(self._done, 4096)
            elif self.stopped.is_set():
                self._interrupt("STOPPED")
            elif time.monotonic() > self.deadline:
                self._interrupt("TIMED_OUT")
            elif (code := self._tree.poll()) is not None:
                self._died = True
                return code or 1
        verb, code_text = message.split()[:2]
        self._died = verb == b"died"
        return int(code_text)

    def _interrupt(self, status: str) -> None:
        self._tree.stop()
        raise Interrupted(status)

    def _restore_lines(self) -> Iterator[str]:
        env = self.environment()
        for name in self.base_env.keys() - env.keys() - _OWN:
            yield f"unset {name}\n"
        for name, value in env.items():
            # bash exports functions under names that are no identifiers.
            if name not in _OWN and name.isidentifier() and name.isascii():
                yield f"export {name}={shlex.quote(value)}\n"
        with contextlib.suppress(FileNotFoundError):
            cwd = (self.control / "cwd").read_text().rstrip("\n")
            yield f"cd {shlex.quote(cwd)} 2>/dev/null || :\n"


def _program(name: str) -> str:
    """Return the path of a program, since a build may change PATH."""
    for folder in ("/usr/bin", "/bin"):
        if (path := Path(folder, name)).exists():
            return str(path)
    raise FileNotFoundError(f"{name} is in neither /usr/bin nor /bin")
