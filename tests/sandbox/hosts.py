"""Units and programs for tests of sandbox hosts."""

import http.client
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from apps.sandbox.hosts.host import Host
from apps.sandbox.hosts.names import Layout

# Says READY=1, then answers on every inherited socket with its own name.
SERVER = """
import os, select, socket, sys
fds = [socket.socket(fileno=3 + n) for n in range(int(os.environ.get("LISTEN_FDS", "0")))]
assert not fds or int(os.environ["LISTEN_PID"]) == os.getpid()
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
notify.send(b"READY=1\\nSTATUS=serving")
while True:
    for sock in select.select(fds, [], [])[0]:
        try:
            client, _ = sock.accept()
        except BlockingIOError:  # the other instance was faster
            continue
        client.recv(1024)
        body = (sys.argv[1] + " " + os.environ["LISTEN_FDNAMES"]).encode()
        client.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
        client.close()
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def write_unit(layout: Layout, name: str, text: str) -> None:
    path = layout.units / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def enable(layout: Layout, name: str, target: str) -> None:
    link = layout.units / f"{target}.wants" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(layout.units / name)


def write_app(layout: Layout, port: int) -> None:
    """Units for a swap that works: a public socket, a pointer; per release a service and a socket."""
    (layout.root / "srv/lockkeeper").mkdir(parents=True, exist_ok=True)
    (layout.root / "srv/lockkeeper/server.py").write_text(SERVER)
    write_unit(
        layout,
        "app.socket",
        f"[Socket]\nListenStream=127.0.0.1:{port}\nFileDescriptorName=public\nService=app.service\n"
        "[Install]\nWantedBy=sockets.target\n",
    )
    write_unit(
        layout,
        "app.service",
        "[Unit]\nRequires=app.socket\nAfter=app.socket\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        "ExecStart=-/bin/sh -c 'it=$$(readlink /srv/lockkeeper/current) && systemctl start --no-block "
        "app@$${it##*/}.service'\n[Install]\nWantedBy=multi-user.target\n",
    )
    write_unit(
        layout,
        "app-private@.socket",
        "[Unit]\nPartOf=app@%i.service\n[Socket]\nListenStream=/run/lockkeeper/%i.sock\nRemoveOnStop=yes\n"
        "FileDescriptorName=private\nService=app@%i.service\n",
    )
    write_unit(
        layout,
        "app@.service",
        "[Unit]\nRequires=app.socket app-private@%i.socket\nAfter=app.socket app-private@%i.socket\n"
        "StartLimitIntervalSec=0\n[Service]\nType=notify\nSockets=app.socket app-private@%i.socket\n"
        f"ExecStart={sys.executable} /srv/lockkeeper/server.py %i\n"
        "Restart=always\nRestartSec=200ms\nKillMode=mixed\nProtectSystem=strict\n",
    )
    enable(layout, "app.socket", "sockets.target")
    enable(layout, "app.service", "multi-user.target")


def point_current(layout: Layout, release: str) -> None:
    link = layout.root / "srv/lockkeeper/current"
    link.unlink(missing_ok=True)
    link.symlink_to(f"releases/{release}")


def get(port: int, timeout: float = 10) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def show(host: Host, unit: str, key: str) -> str:
    return host.systemctl("show", "--value", "-p", key, unit).stdout.strip()


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def journal(layout: Layout, unit: str) -> str:
    path: Path = layout.journal / f"{unit}.log"
    return path.read_text() if path.exists() else ""
