"""Throw-away Debian hosts: a root overlay over the base, in a systemd-nspawn container with a real systemd.

Nothing outlives the process that started it. The container dies with it (PR_SET_PDEATHSIG), and with the
container its mounts, its network and its processes, which are all in namespaces of its own. What a killed run
leaves is one bridge, some empty cgroups and a folder, which the next user of the slot removes.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from apps.sandbox.postgres.account import die_with_parent

REPOSITORY = Path(__file__).resolve().parents[2]
HOSTS = REPOSITORY / ".local/hosts"
SLOTS = Path("/run/lockkeeper-hosts")
REBOOT = 133  # how systemd-nspawn ends when its system wants to be started again
BOOT_S = 90.0
# The shell moves itself into the host's own cgroups, mounts where nobody else sees it, and becomes the host.
START = """
for group in $GROUPS_OF_HOST; do echo $$ >"$group/cgroup.procs"; done
mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$FOLDER/upper,workdir=$FOLDER/work" "$FOLDER/mount"
exec systemd-nspawn --quiet --directory "$FOLDER/mount" --boot --register=no --keep-unit --link-journal=no \
    --console=pipe --resolv-conf=off --timezone=off "$@"
"""


class Refused(Exception):
    """This machine cannot run hosts; the message says why."""


def base() -> Path:
    """Where the base is, or would be."""
    program = Path(__file__).with_name("make-base")
    shown = subprocess.run([program, "--path"], check=True, capture_output=True, text=True)
    return Path(shown.stdout.strip())


class Slot:
    """A bridge with a network, 10.99.N.0/24, that no other checkout on this machine uses meanwhile.

    The lock goes with the process that holds it. Whoever gets it next removes what a killed one left.
    """

    def __init__(self, number: int) -> None:
        """Raises BlockingIOError when another process has it, _Taken when something else has its network."""
        self.number = number
        SLOTS.mkdir(mode=0o700, exist_ok=True)
        self.lock = (SLOTS / str(number)).open("a+")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._remove_remains()
            self._make_bridge()
        except BaseException:
            self.lock.close()
            raise

    @classmethod
    def free(cls) -> "Slot":
        """Take the first that is free."""
        for number in range(1, 9):
            with contextlib.suppress(BlockingIOError, _Taken):
                return cls(number)
        raise Refused(f"all networks for hosts are in use by those who hold a lock on the files in {SLOTS}")

    @property
    def bridge(self) -> str:
        return f"lkhosts{self.number}"

    @property
    def address(self) -> str:
        """This machine, as the hosts see it."""
        return self.address_of(1)

    def address_of(self, host: int) -> str:
        return f"10.99.{self.number}.{host}"

    def name_of(self, host: int) -> str:
        return f"lk{self.number}-{host}"

    def close(self) -> None:
        self._remove_remains()
        self.lock.close()

    def folder(self, name: str) -> Path:
        """An empty folder for a host, noted for whoever has to remove it."""
        folder = HOSTS / name
        self.lock.seek(0)
        noted = json.loads(self.lock.read() or "{}") | {name: str(folder)}
        self.lock.truncate(0)
        self.lock.write(json.dumps(noted))
        self.lock.flush()
        shutil.rmtree(folder, ignore_errors=True)
        for part in ("upper", "work", "mount"):
            (folder / part).mkdir(parents=True)
        return folder

    def _make_bridge(self) -> None:
        routes = _ip("route", "show", "10.99.0.0/16", "root", "10.99.0.0/16")
        if f"10.99.{self.number}." in routes:
            raise _Taken
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")

    def _remove_remains(self) -> None:
        if Path("/sys/class/net", self.bridge).exists():
            _ip("link", "delete", self.bridge)
        self.lock.seek(0)
        for name, folder in json.loads(self.lock.read() or "{}").items():
            for group in _groups(name):
                _remove_group(group)
            shutil.rmtree(f"/run/systemd/nspawn/propagate/{name}", ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
        self.lock.truncate(0)


class _Taken(Exception):
    """Something else has this network."""


class Nspawn:
    """One host, as a machine: power, a console, and programs started by its systemd."""

    def __init__(self, slot: Slot, number: int) -> None:
        self.name = slot.name_of(number)
        self.address = slot.address_of(number)
        self.slot = slot
        self.folder = slot.folder(self.name)
        self.console = self.folder / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        etc = self.folder / "upper/etc"
        (etc / "systemd/network").mkdir(parents=True)
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        (etc / "machine-id").write_text(f"{os.urandom(16).hex()}\n")
        # No route beyond the bridge and no name service: what a deployment fetches from elsewhere would fail.
        (etc / "systemd/network/10-host.network").write_text(
            f"[Match]\nName=host0\n\n[Network]\nAddress={self.address}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        )
        # Every path inside the host by one that stays the same from boot to boot.
        self.root = self.folder / "root"

    @property
    def init(self) -> int:
        """The host's systemd, by its number outside; Refused when the host is down."""
        assert self._process is not None
        # unshare, systemd-nspawn, init
        with contextlib.suppress(OSError, IndexError):
            return _first_child(_first_child(self._process.pid))
        raise Refused(f"{self.name} is down: {self.last_words()}")

    def boot(self) -> None:
        """Power on, and wait until systemd has started everything.

        From the main thread: the kernel ends the host when the thread that started it ends. Raises Refused.
        """
        for group in _groups(self.name):
            group.mkdir(exist_ok=True)
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                [
                    *(
                        "unshare",
                        "--mount",
                        "--propagation",
                        "private",
                        "--pid",
                        "--mount-proc",
                        "--kill-child",
                    ),
                    *("--", "/bin/sh", "-ec", START, "sh"),
                    *(f"--machine={self.name}", f"--network-bridge={self.slot.bridge}"),
                ],
                env={
                    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                    "BASE": str(base()),
                    "FOLDER": str(self.folder),
                    "GROUPS_OF_HOST": " ".join(map(str, _groups(self.name))),
                },
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C is for the tests, which then switch it off
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        deadline = time.monotonic() + BOOT_S
        state = ""
        while state not in {"running", "degraded"}:
            if self._process.poll() is not None:
                raise Refused(f"{self.name} did not start: {self.last_words()}")
            if time.monotonic() > deadline:
                raise Refused(f"{self.name} is not up after {BOOT_S:.0f} s ({state}): {self.last_words()}")
            time.sleep(0.05)
            with contextlib.suppress(Refused):
                state = self.enter("systemctl", "is-system-running", check=False).stdout.strip()
        self.enter("/usr/lib/systemd/systemd-networkd-wait-online", "--interface=host0", "--timeout=60")
        self.root.unlink(missing_ok=True)
        self.root.symlink_to(f"/proc/{self.init}/root")

    def reboot(self) -> None:
        """Shut down in order and boot again."""
        self.enter("systemctl", "reboot", check=False)
        assert self._process is not None
        code = self._process.wait(timeout=BOOT_S)
        assert code == REBOOT, f"{self.name} ended with {code} when it was to reboot: {self.last_words()}"
        self.boot()

    def cut_power(self) -> None:
        """Everything in the host is gone at once."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(Refused, ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def last_words(self) -> str:
        lines = self.console.read_text(errors="replace").splitlines() if self.console.exists() else []
        return " | ".join(line.strip() for line in lines[-5:] if line.strip()) or "nothing on its console"

    def command(self, *command: str | Path) -> list[str | Path]:
        """What runs a program in the host's namespaces, with the environment of a login on its console."""
        return [
            *("nsenter", "--target", str(self.init), "--all", "--", "/usr/bin/env", "-i", "LANG=C.UTF-8"),
            *("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb"),
            *("SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", *command),
        ]

    def unit_command(
        self, *command: str | Path, environ: Mapping[str, str] | None = None
    ) -> list[str | Path]:
        """What runs a program as a service of the host's systemd, with ``environ`` and what that adds.

        Everything in its control group is gone when the program has ended, as with a real service.
        """
        settings = [f"--setenv={name}={value}" for name, value in (environ or {}).items()]
        return self.command("systemd-run", "--quiet", "--pipe", "--wait", "--collect", *settings, *command)

    def enter(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return _run(self.command(*command), check=check)

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return _run(self.unit_command(*command), check=check)


@contextlib.contextmanager
def hosts(count: int) -> Iterator[tuple[Slot, list[Nspawn]]]:
    """``count`` hosts that are up, and the network they are in. Raises Refused where this machine cannot."""
    slot = Slot.free()
    made: list[Nspawn] = []
    try:
        for number in range(count):
            made.append(Nspawn(slot, 11 + number))
            made[-1].boot()
        yield slot, made
    finally:
        for host in made:
            host.cut_power()
        slot.close()


def _run(command: Sequence[str | Path], *, check: bool) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert not check or done.returncode == 0, f"exit {done.returncode}: {done.stdout}"
    return done


def _first_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _groups(name: str) -> list[Path]:
    """The host's own cgroups: in systemd's hierarchies, or in the one there is."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return [top / name]
    return [top / hierarchy / name for hierarchy in ("systemd", "unified") if (top / hierarchy).is_dir()]


def _remove_group(group: Path) -> None:
    """Remove a cgroup and those in it, with any process that is still there."""
    deadline = time.monotonic() + 20
    while group.exists():
        for folder in [*sorted(group.rglob("*/"), reverse=True), group]:
            with contextlib.suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                folder.rmdir()
        if group.exists():
            assert time.monotonic() < deadline, f"there are still processes in {group}"
            time.sleep(0.05)
