"""No request is dropped while one release takes over from another."""

import socket
import threading
import time

import pytest

from tests.hooks.agent import Deployment, wait_until
from tests.hooks.campaign import Campaign, shorten_start
from tests.hooks.load import Load

pytestmark = pytest.mark.integration
# What one request may wait. On a machine that is busy with other tests the promise of 0.5 s is bench/swap's.
LONGEST_S = 2.0


def prepared(machine, bundle):
    deployment = Deployment(machine, bundle)
    deployment.run_until("AfterInstall")
    return deployment


def test_five_deployments_under_mixed_load_fail_no_request(machine, make_bundle):
    """Two of them of bad releases that are up and answer: neither may meet a client."""
    shorten_start(machine, 4)
    campaign = Campaign(machine, make_bundle)
    campaign.begin()
    order = ("good", "answers 500", "good", "dies after a second", "good")
    with Load(machine.port, clients=1, mixed=1, long_s=2.0) as load:
        outcomes = list(campaign.deploy(order, 5))
    assert [outcome.problem for outcome in outcomes] == [""] * 5
    assert load.failures == []
    assert load.requests > 100
    assert all(kind.requests for kind in load.kinds)
    assert load.digests <= {make_bundle(tale).digest for tale in ("red", "green", "blue")}
    assert load.longest_s < LONGEST_S


def test_a_release_that_is_tried_is_not_met_at_the_front_door(machine, make_bundle):
    one, two = make_bundle("one"), make_bundle("two")
    machine.deploy(one)
    deployment = prepared(machine, two)
    machine.up.systemctl("start", f"lockkeeper@{two.digest}.service")
    with Load(machine.port, clients=2) as load:
        wait_until(lambda: load.requests > 200)
    assert load.failures == []
    assert load.digests == {one.digest}
    assert deployment.run("ApplicationStart").code == 0
    assert machine.serving() == two.digest


def test_a_client_that_reads_slowly_holds_nobody_up(machine, make_bundle):
    """As many as there are workers, each with its answer unread for two seconds."""
    machine.deploy(make_bundle("one"))
    ask = b"GET /version HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", machine.port)) for _ in range(6)]
    for client in slow:
        client.sendall(ask)
    began = time.monotonic()
    with Load(machine.port, clients=1) as load:
        wait_until(lambda: time.monotonic() - began > 1.5)
    for client in slow:
        client.close()
    assert load.failures == []
    # It was two seconds for everybody whose worker waited in its main thread.
    assert load.longest_s < 1.5


def test_a_request_under_way_is_finished_by_the_old_release(machine, make_bundle):
    one, two = make_bundle("one"), make_bundle("two")
    machine.deploy(one)
    deployment = prepared(machine, two)
    answers = []

    def ask():
        answers.append(machine.get("/slow"))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    assert deployment.run("ApplicationStart").code == 0
    asking.join(timeout=30)
    assert one.digest in answers[0]
    assert machine.serving() == two.digest


def test_a_connection_waits_while_no_release_runs(machine, make_bundle):
    """The front door belongs to systemd: nobody is refused even when the release was killed."""
    one = make_bundle("one")
    machine.deploy(one)
    unit = f"lockkeeper@{one.digest}.service"
    machine.up.systemctl("kill", "--signal", "KILL", unit)
    assert machine.serving() == one.digest
    wait_until(lambda: machine.up.systemctl("is-active", unit).stdout.strip() == "active")


def test_a_release_that_is_started_over_and_over_comes_up(machine, make_bundle):
    """systemd starts a unit five times in ten seconds, unless told otherwise; its socket no more often."""
    one = make_bundle("one")
    machine.deploy(one)
    unit, private = f"lockkeeper@{one.digest}.service", f"lockkeeper-private@{one.digest}.socket"
    for _ in range(7):
        machine.up.systemctl("kill", "--signal", "KILL", unit)
        machine.up.systemctl("stop", private, unit)
        assert machine.up.systemctl("start", unit).returncode == 0
    assert machine.serving() == one.digest
