"""The load balancers' data plane, with real sockets: forwarding, health, draining."""

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from apps.sandbox.balancer import balancer as module
from apps.sandbox.balancer.balancer import Balancer
from apps.sandbox.balancer.config import Address, Check, Configuration, Group, Listener
from apps.sandbox.balancer.errors import BalancerError, TargetUnhealthy, UnknownTargetGroup
from apps.sandbox.demo.services import free_port

# Not of the unit tier, which every build runs: threads and sockets by the hundred take their time.
pytestmark = pytest.mark.integration

WITHIN = 30.0  # seconds for anything that happens soon
QUICK = Check(interval=0.05, timeout=WITHIN, healthy=2, unhealthy=2)


def wait_until(condition):
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def read_all(connection):
    """Everything up to the end of the stream."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


class Server:
    """A TCP server with a name; what it does with a connection is up to the test."""

    def __init__(self, name, serve=None):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.socket.getsockname()[1]
        self.address = Address(name, self.port)
        self.serve = serve or self.say_name
        self.connections = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection):
        self.connections += 1
        with connection, contextlib.suppress(OSError):
            self.serve(connection)

    def say_name(self, connection):
        """Answer every line with the name."""
        for _ in connection.makefile("rb"):
            connection.sendall(self.address.id.encode() + b"\n")

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def echo(connection):
    while data := connection.recv(1 << 16):
        connection.sendall(data)


class Site:
    """A balancer with one listener and one group, which a test configures as AWS's API would."""

    def __init__(self):
        self.port = free_port()
        self.listener = Listener("listener", self.port, "group")
        self.group = Group("group", "web", QUICK, ())
        self.listening = True
        self.servers = []
        self.balancer = Balancer(self.read)

    def read(self):
        return Configuration((self.listener,) if self.listening else (), (self.group,))

    def serve(self, *names, how=None):
        made = [Server(name, how) for name in names]
        self.servers += made
        return made

    def register(self, *servers, healthy=True):
        self.configure(targets=(*self.group.targets, *(each.address for each in servers)))
        if healthy:
            for each in servers:
                self.balancer.wait_until_healthy("group", each.address.id, WITHIN)

    def deregister(self, server):
        self.configure(targets=tuple(each for each in self.group.targets if each != server.address))

    def configure(self, **changes):
        self.group = replace(self.group, **changes)
        assert self.balancer.reconcile() == {}

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=WITHIN)

    def ask(self):
        """The name of the server that answers a new connection."""
        with self.connect() as connection:
            connection.sendall(b"who\n")
            return connection.makefile().readline().strip()

    def state(self, server):
        return self.balancer.health("group")[server.address.id].state

    def is_refused(self):
        """Whether a new connection is reset without a byte."""
        try:
            with self.connect() as connection:
                connection.sendall(b"who\n")
                return connection.recv(1) == b"never"
        except ConnectionError:
            return True


@pytest.fixture
def site():
    made = Site()
    made.balancer.start()
    while made.balancer.reconcile():  # another took the port meanwhile
        made.port = free_port()
        made.listener = replace(made.listener, port=made.port)
    yield made
    made.balancer.close()
    for server in made.servers:
        server.close()


class TestForwarding:
    def test_connections_go_round_robin(self, site):
        site.register(*site.serve("a", "b", "c"))
        assert sorted(site.ask() for _ in range(6)) == ["a", "a", "b", "b", "c", "c"]

    def test_a_connection_stays_with_its_target(self, site):
        site.register(*site.serve("a", "b"))
        with site.connect() as connection:
            lines = connection.makefile("rwb", buffering=0)
            answers = set()
            for _ in range(10):
                lines.write(b"who\n")
                answers.add(lines.readline())
        assert len(answers) == 1

    def test_an_answer_comes_after_the_client_has_said_all(self, site):
        def count(connection):
            connection.sendall(str(len(read_all(connection))).encode())

        site.register(*site.serve("a", how=count))
        with site.connect() as connection:
            connection.sendall(b"x" * 100_000)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b"100000"

    def test_a_target_that_has_said_all_still_hears(self, site):
        heard = []

        def talk(connection):
            connection.sendall(b"hello")
            connection.shutdown(socket.SHUT_WR)
            heard.append(read_all(connection))

        site.register(*site.serve("a", how=talk))
        with site.connect() as connection:
            assert read_all(connection) == b"hello"
            connection.sendall(b"good-bye")
        wait_until(lambda: b"good-bye" in heard)

    def test_a_slow_reader_stops_the_target_and_loses_nothing(self, site):
        size, sent = 64 << 20, []

        def pour(connection):
            if not connection.recv(1):
                return  # a health check
            chunk = bytes(1 << 16)
            for _ in range(size // len(chunk)):
                connection.sendall(chunk)
                sent.append(len(chunk))

        site.register(*site.serve("a", how=pour))
        with site.connect() as connection:
            connection.sendall(b"x")
            # What is on its way fits the kernel's buffers and a few chunks; the rest waits in the target.
            wait_until(lambda: len(sent) > 0)
            before = -1
            while before != len(sent):
                before = len(sent)
                time.sleep(0.3)
            assert sum(sent) < size / 2
            assert len(read_all(connection)) == size

    def test_two_hundred_connections_at_once_are_served(self, site):
        site.register(*site.serve("a", "b", how=echo))
        connections = [site.connect() for _ in range(200)]
        for number, connection in enumerate(connections):
            connection.sendall(str(number).encode().zfill(1000))
        for number, connection in enumerate(connections):
            assert int(connection.makefile("rb").read(1000)) == number
        counts = sorted(server.connections for server in site.servers)
        assert counts[0] >= 100
        for connection in connections:
            connection.close()

    def test_a_reset_by_the_target_is_a_reset_for_the_client(self, site):
        def fall(connection):
            connection.recv(1)
            connection.sendall(b"half an answ")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        site.register(*site.serve("a", how=fall))
        with site.connect() as connection:
            connection.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                read_all(connection)

    def test_a_reset_by_the_client_is_told_to_the_target(self, site):
        ended = threading.Event()

        def listen(connection):
            try:
                read_all(connection)
            except ConnectionResetError:
                ended.set()

        site.register(*site.serve("a", how=listen))
        connection = site.connect()
        connection.sendall(b"x")
        wait_until(lambda: site.servers[0].connections > 1)  # the first was a health check
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        assert ended.wait(WITHIN)

    def test_an_idle_connection_is_dropped_and_a_busy_one_is_not(self, site):
        site.listener = replace(site.listener, idle=1.0)
        site.register(*site.serve("a"))
        idle, busy = site.connect(), site.connect()
        lines = busy.makefile("rwb", buffering=0)
        while not select.select([idle], [], [], 0.1)[0]:
            lines.write(b"who\n")
            assert lines.readline() == b"a\n"
        with pytest.raises(ConnectionResetError):
            idle.recv(1)
        lines.write(b"who\n")
        assert lines.readline() == b"a\n"
        lines.close()
        busy.close()
        idle.close()

    def test_more_connections_than_it_can_hold_are_refused(self, site, monkeypatch):
        monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
        site.register(*site.serve("a"))
        held = [site.connect() for _ in range(2)]
        for connection in held:
            connection.sendall(b"who\n")
            assert connection.recv(10) == b"a\n"
        assert site.is_refused()
        held.pop().close()
        wait_until(lambda: not site.is_refused())
        held.pop().close()


class TestListening:
    def test_without_targets_connections_are_reset(self, site):
        site.configure()
        assert site.is_refused()

    def test_nobody_listens_once_the_listener_is_gone(self, site):
        site.register(*site.serve("a"))
        site.listening = False
        site.balancer.reconcile()
        with pytest.raises(ConnectionRefusedError):
            site.connect()

    def test_a_taken_port_is_said_and_taken_later(self, site):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            site.port = taken.getsockname()[1]
            site.listener = replace(site.listener, port=site.port)
            problems = site.balancer.reconcile()
            assert "cannot be listened on (Address already in use)" in problems["listener"]
        site.register(*site.serve("a"))
        assert site.ask() == "a"

    def test_what_nobody_told_it_is_seen_soon(self, site):
        site.balancer.reconcile()
        (server,) = site.serve("a")
        site.group = replace(site.group, targets=(server.address,))
        wait_until(lambda: not site.is_refused())

    def test_it_closes_with_connections_open_and_is_not_asked_after(self, site):
        site.register(*site.serve("a"))
        connection = site.connect()
        site.balancer.close()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        with pytest.raises(BalancerError, match="being stopped"):
            site.balancer.reconcile()


class TestHealth:
    def test_one_check_makes_a_new_target_healthy_and_several_an_old_one(self, site):
        site.configure(check=replace(QUICK, healthy=3))
        (server,) = site.serve("a")
        site.register(server)
        server.close()
        wait_until(lambda: site.state(server) == "unhealthy")
        health = site.balancer.health("group")["a"]
        assert (health.reason, health.description) == ("Target.FailedHealthChecks", "Health checks failed")

    def test_a_target_nobody_serves_on_is_not_healthy(self, site):
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            site.configure(targets=(Address("a", deaf.getsockname()[1]),))
            assert site.balancer.health("group")["a"].state == "initial"
            wait_until(lambda: site.balancer.health("group")["a"].state == "unhealthy")
        with pytest.raises(TargetUnhealthy, match="a is unhealthy in target group web: Health checks failed"):
            site.balancer.wait_until_healthy("group", "a", 0.1)

    def test_unhealthy_targets_get_no_connection_while_another_is_healthy(self, site):
        good, bad = site.serve("good", "bad")
        site.register(good, bad)
        bad.close()
        wait_until(lambda: site.state(bad) == "unhealthy")
        assert {site.ask() for _ in range(4)} == {"good"}

    def test_http_decides_by_the_status(self, site):
        status = [503]

        def answer(connection):
            request = connection.recv(1 << 16)
            assert request.startswith(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:")
            connection.sendall(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status[0])

        site.configure(check=replace(QUICK, protocol="HTTP", path="/readyz", codes=((200, 299),)))
        (server,) = site.serve("a", how=answer)
        site.register(server, healthy=False)
        wait_until(lambda: site.state(server) == "unhealthy")
        health = site.balancer.health("group")["a"]
        assert (health.reason, health.description) == (
            "Target.ResponseCodeMismatch",
            "Health checks failed with these codes: [503]",
        )
        status[0] = 204
        site.balancer.wait_until_healthy("group", "a", WITHIN)

    def test_no_answer_in_time_is_a_timeout(self, site):
        site.configure(check=replace(QUICK, protocol="HTTP", timeout=0.1))
        (server,) = site.serve("a", how=lambda connection: read_all(connection))
        site.register(server, healthy=False)
        wait_until(lambda: site.balancer.health("group")["a"].reason == "Target.Timeout")

    def test_nonsense_instead_of_http_is_unhealthy(self, site):
        site.configure(check=replace(QUICK, protocol="HTTP"))
        (server,) = site.serve("a", how=lambda connection: connection.sendall(b"220 mail\r\n"))
        site.register(server, healthy=False)
        wait_until(lambda: site.state(server) == "unhealthy")

    def test_with_unhealthy_targets_only_it_fails_open(self, site):
        def answer(connection):
            line = connection.makefile("rb").readline()
            connection.sendall(b"HTTP/1.1 503 No\r\n\r\n" if line.startswith(b"GET") else b"a\n")

        site.configure(check=replace(QUICK, protocol="HTTP"))
        (server,) = site.serve("a", how=answer)
        site.register(server, healthy=False)
        wait_until(lambda: site.state(server) == "unhealthy")
        assert site.ask() == "a"

    def test_a_group_that_no_listener_forwards_to_is_not_checked(self, site):
        site.listening = False
        (server,) = site.serve("a")
        site.register(server, healthy=False)
        assert site.balancer.health("group")["a"].reason == "Target.NotInUse"
        with pytest.raises(TargetUnhealthy, match="not configured to receive traffic"):
            site.balancer.wait_until_healthy("group", "a")
        assert server.connections == 0

    def test_addresses_of_other_machines_are_left_alone(self, site):
        site.configure(targets=(Address("10.0.0.1", 80, host=""),))
        wait_until(lambda: site.balancer.health("group")["10.0.0.1"].state == "unhealthy")
        assert "not an address of this machine" in site.balancer.health("group")["10.0.0.1"].description
        assert site.is_refused()

    def test_a_stopped_instance_is_unused(self, site):
        (server,) = site.serve("a")
        site.register(server)
        site.configure(targets=(replace(server.address, usable=False),))
        assert site.balancer.health("group")["a"].reason == "Target.InvalidState"
        assert site.is_refused()

    def test_the_health_of_a_stranger_is_that_it_is_not_registered(self, site):
        site.configure()
        assert site.balancer.health("group", ["x"])["x"].reason == "Target.NotRegistered"


class TestDraining:
    def test_new_connections_go_elsewhere_and_old_ones_may_finish(self, site):
        a, b = site.serve("a", "b")
        site.register(a)
        old = site.connect()
        lines = old.makefile("rwb", buffering=0)
        lines.write(b"who\n")
        assert lines.readline() == b"a\n"
        site.register(b)
        site.deregister(a)
        assert {site.ask() for _ in range(4)} == {"b"}
        assert site.state(a) == "draining"
        lines.write(b"who\n")
        assert lines.readline() == b"a\n"
        drained = threading.Thread(target=site.balancer.wait_until_drained, args=("group", "a"))
        drained.start()
        drained.join(0.2)
        assert drained.is_alive()
        lines.close()
        old.close()
        drained.join(WITHIN)
        assert not drained.is_alive()
        # AWS shows it as draining until the delay is over, drained or not.
        assert site.state(a) == "draining"

    def test_the_delay_ends_the_wait_and_not_the_connection(self, site):
        (server,) = site.serve("a")
        site.configure(delay=0.2)
        site.register(server)
        with site.connect() as connection:
            lines = connection.makefile("rwb", buffering=0)
            lines.write(b"who\n")
            assert lines.readline() == b"a\n"
            site.deregister(server)
            site.balancer.wait_until_drained("group", "a")
            wait_until(lambda: "a" not in site.balancer.health("group"))
            lines.write(b"who\n")
            assert lines.readline() == b"a\n"

    def test_the_delay_ends_the_connection_where_the_group_says_so(self, site):
        (server,) = site.serve("a")
        site.configure(delay=0.2, cut_after_delay=True)
        site.register(server)
        with site.connect() as connection:
            connection.sendall(b"who\n")
            assert connection.recv(10) == b"a\n"
            site.deregister(server)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)

    def test_what_was_never_registered_is_drained_at_once(self, site):
        site.balancer.wait_until_drained("group", "a")

    def test_a_target_can_come_back_while_it_drains(self, site):
        (server,) = site.serve("a")
        site.register(server)
        site.deregister(server)
        assert site.is_refused()
        site.register(server)
        assert site.ask() == "a"

    def test_no_connection_is_lost_while_targets_come_and_go(self, site):
        servers = site.serve("a", "b")
        site.register(*servers)
        end, failures, answers = threading.Event(), [], set()

        def ask():
            while not end.is_set():
                try:
                    answers.add(site.ask())
                except OSError as error:
                    failures.append(error)

        clients = [threading.Thread(target=ask) for _ in range(8)]
        for client in clients:
            client.start()
        for _ in range(10):
            for server in servers:
                site.deregister(server)
                site.balancer.wait_until_drained("group", server.address.id)
                site.register(server)
        end.set()
        for client in clients:
            client.join(WITHIN)
        assert failures == []
        assert answers == {"a", "b"}


def test_a_group_is_found_by_its_name(site):
    assert site.balancer.group_named("web").arn == "group"
    with pytest.raises(UnknownTargetGroup, match="There is no target group wbe"):
        site.balancer.group_named("wbe")


def test_its_memory_does_not_grow_with_connections(site):
    site.register(*site.serve("a"))
    before = open_files()
    for _ in range(300):
        site.ask()
    wait_until(lambda: not site.balancer._connections)
    wait_until(lambda: open_files() < before + 50)
