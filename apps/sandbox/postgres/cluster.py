"""A cluster for one run: made, started, stopped and removed."""

import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from .account import die_with_parent, server_account
from .binaries import copy_binaries, find_binaries
from .errors import PostgresError, say
from .server import Server

START_TIMEOUT = 30.0  # seconds; a usual start takes 0.2
NEEDED_BYTES = 200 * 1024 * 1024  # a fresh cluster is 40 MB, the write-ahead log grows beside it
SUPERUSER = "lockkeeper"
FOLDER_PREFIX = "lockkeeper-postgres-"


class Cluster:
    """A private cluster; a context manager that starts and stops it.

    `state` is the folder for data and log. Without one, or where it is out of reach of the user the server
    has to run as, a temporary folder holds the data. Start it from a thread that lives as long as it should:
    the kernel ends the server when the *thread* that started it ends.

    `address` is where it listens: 127.0.0.1, or another of this machine's, which then its own subnet may use.
    """

    def __init__(
        self,
        *,
        state: Path | None = None,
        address: str = "127.0.0.1",
        port: int | None = None,
        bindir: Path | None = None,
    ):
        self.address = address
        self.wanted_port = port
        self.state = state
        self.account = server_account()
        self.bindir = bindir or find_binaries()
        self.folder = Path()
        self.log = Path()
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_lock: int | None = None
        self.server = Server("")

    def __enter__(self) -> Self:
        try:
            self._make_folder()
            self._initialise()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def halt(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server (sessions are cut) and keep its data; SIGINT a "fast" stop, SIGQUIT a crash."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(10)

    def resume(self) -> None:
        """Start the server again after `halt`, on the port that was asked for."""
        # The crashed server's would be taken for the new one's.
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        self._start()

    def stop(self) -> None:
        """End the server and remove its data; the log stays in `state`."""
        self.halt()
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._owner_lock is not None:
            os.close(self._owner_lock)
            self._owner_lock = None

    def _make_folder(self) -> None:
        if self.state is not None:
            self.state.mkdir(parents=True, exist_ok=True)
        parent = self._find_parent()
        _sweep(parent)
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
        if self.state not in (None, parent):
            say(f"{self.state} is out of reach of the user {self.account.name}: the data is in {self.folder}")
        free = shutil.disk_usage(self.folder).free
        if free < NEEDED_BYTES:
            raise PostgresError(
                f"{self.folder.parent} has {free // 2**20} MB free, "
                f"a server needs {NEEDED_BYTES // 2**20} MB: make room or set TMPDIR"
            )
        # Under its name once it is locked: another one that starts now would take it for a dead one's.
        unlocked = self.folder / "owner.new"
        self._owner_lock = os.open(unlocked, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._owner_lock, fcntl.LOCK_EX)
        unlocked.rename(self.folder / "owner")
        self.log = (self.state or self.folder) / "postgres.log"
        self.account.give(self.folder)
        if not self.account.can_enter(self.bindir):
            # The wheel's, in an environment below a closed home.
            self.bindir = copy_binaries(self.bindir, self.folder / "programs")

    def _find_parent(self) -> Path:
        """Return the folder to put the data into: the first choice that the server's user can reach."""
        choices = [self.state] if self.state else []
        choices += [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108  # mkdtemp follows
        for choice in choices:
            if choice.is_dir() and self.account.can_enter(choice):
                return choice
        tried = ", ".join(str(choice) for choice in choices)
        raise PostgresError(f"none of {tried} is within reach of the user {self.account.name}: set TMPDIR")

    def _initialise(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self._password)
        self.account.give(password_file)
        password_file.chmod(0o600)
        command: list[str | Path] = [self.bindir / "initdb", "--pgdata", self.folder / "data"]
        command += ["--username", SUPERUSER, "--pwfile", password_file]
        command += ["--auth", "scram-sha-256", "--no-sync", "--no-instructions"]
        command += ["--encoding", "UTF8", "--locale", "C"]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env=_server_environment(),
            check=False,
            user=self.account.uid,
            group=self.account.gid,
            extra_groups=self.account.groups,
        )
        password_file.unlink()
        if done.returncode:
            raise PostgresError(f"initdb failed in {self.folder}: {_reason(done.stdout)}")
        if self.address != "127.0.0.1":
            with (self.folder / "data/pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet scram-sha-256\n")

    def _start(self) -> None:
        for attempt in range(5):
            port = self.wanted_port or _free_port(self.address)
            written = self.log.stat().st_size if self.log.exists() else 0
            if self._try_start(port):
                self.server = Server(
                    f"postgres://{SUPERUSER}:{self._password}@{self.address}:{port}/postgres"
                )
                return
            output = self.log.read_bytes()[written:].decode(errors="replace")
            if "Address already in use" not in output:
                raise PostgresError(f"PostgreSQL did not start: {_reason(output)}")
            if self.wanted_port:
                raise PostgresError(f"port {port} of {self.address} is taken; choose another or none")
            say(f"port {port} was taken meanwhile, trying another ({attempt + 1})")
        raise PostgresError("five free ports in a row were taken by others before the server could bind them")

    def _try_start(self, port: int) -> bool:
        """Start the server; False if it ended, with the reason in the log."""
        settings = {
            "listen_addresses": self.address,
            "port": port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %d ",
            # Nothing here has to survive a power cut.
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        command = [str(self.bindir / "postgres"), "-D", str(self.folder / "data")]
        command += [f"--{name}={value}" for name, value in settings.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_server_environment(),
                start_new_session=True,  # Ctrl-C is for the command, which may still need its database
                preexec_fn=die_with_parent(signal.SIGINT),
                user=self.account.uid,
                group=self.account.gid,
                extra_groups=self.account.groups,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while self._process.poll() is None:
            if _says_ready(self.folder / "data" / "postmaster.pid"):
                return True
            if time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL was not ready after {START_TIMEOUT:.0f} s")
            time.sleep(0.02)
        return False


def _server_environment() -> dict[str, str]:
    """Return an environment without the PG* variables, which the server's programs would obey."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _says_ready(pid_file: Path) -> bool:
    """Say whether the server wrote `ready` into line 8 of its postmaster.pid, as pg_ctl checks it."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready"


def _reason(output: str) -> str:
    """Return the lines of a program's output that say what went wrong, or else its last ones."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"FATAL|ERROR|error:|No space left|could not", line)]
    return "; ".join((telling or lines or ["no output"])[-3:])


def _sweep(parent: Path) -> None:
    """Remove what servers left in `parent` whose owner was killed; a living owner holds a lock."""
    for folder in parent.glob(f"{FOLDER_PREFIX}*"):
        try:
            owner = os.open(folder / "owner", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # somebody else's, or one that is being made right now
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(owner)
