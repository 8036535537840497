"""No request is dropped while one release takes over from another."""

import threading
import time

import pytest

from tests.hooks.agent import Deployment, wait_until
from tests.hooks.load import Load

pytestmark = pytest.mark.integration


def prepared(machine, bundle):
    deployment = Deployment(machine, bundle)
    deployment.run_until("AfterInstall")
    return deployment


def test_swaps_under_load_fail_no_request(machine, make_bundle):
    one = machine.deploy(make_bundle("one"))
    two = prepared(machine, make_bundle("two"))
    with Load(machine.port) as load:
        for deployment in (two, one, two):
            for event in ("ApplicationStart", "ValidateService"):
                result = deployment.run(event)
                assert result.code == 0, result.output
    assert load.requests > 100
    assert load.failures == []


def test_a_broken_release_costs_no_request(machine, make_bundle):
    machine.deploy(make_bundle("one"))
    bad = prepared(machine, make_bundle("bad", at_import="import no_such_module"))
    with Load(machine.port) as load:
        assert bad.run("ApplicationStart").code == 1
    assert load.failures == []


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
