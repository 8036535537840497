"""Whole deployments through the real hooks, on a host with units, gunicorn and swaps."""

import pytest

from tests.hooks.agent import Deployment, wait_until

pytestmark = pytest.mark.integration


def units(digest):
    return {
        f"lockkeeper@{digest}.service",
        f"lockkeeper-private@{digest}.socket",
        f"lockkeeper-reconcile@{digest}.service",
    }


def environments(machine):
    return {
        path.name: (path / "bin/python").lstat().st_ctime_ns for path in (machine.home / "venvs").iterdir()
    }


def test_a_first_deployment_serves_and_a_second_takes_over_and_reuses_the_environment(machine, make_bundle):
    one, two = make_bundle("one"), make_bundle("two")
    machine.deploy(one)
    assert machine.serving() == one.digest
    assert machine.running() == units(one.digest)
    assert (machine.pointer("current"), machine.pointer("previous")) == (one.digest, None)
    built = environments(machine)
    assert len(built) == 1

    second = Deployment(machine, two)
    second.run_until("Install")
    result = second.run("AfterInstall")
    assert "already here" in result.output
    assert "building" not in result.output
    assert environments(machine) == built
    for event in ("ApplicationStart", "ValidateService"):
        assert second.run(event).code == 0
    assert machine.serving() == two.digest
    assert machine.running() == units(two.digest)
    assert (machine.pointer("current"), machine.pointer("previous")) == (two.digest, one.digest)
    assert machine.leftovers() == []


def test_going_back_reuses_the_release_that_is_on_the_host(machine, make_bundle):
    one, two = make_bundle("one"), make_bundle("two")
    machine.deploy(one)
    made = (machine.home / "releases" / one.digest).stat().st_ctime_ns
    machine.deploy(two)
    machine.deploy(one)
    assert machine.serving() == one.digest
    assert (machine.home / "releases" / one.digest).stat().st_ctime_ns == made
    assert (machine.pointer("current"), machine.pointer("previous")) == (one.digest, two.digest)


def test_the_same_deployment_again_changes_nothing(machine, make_bundle):
    deployment = machine.deploy(make_bundle("one"))
    machine.deploy(make_bundle("two"))
    deployment = machine.deploy(make_bundle("two"))
    before = (machine.pointer("current"), machine.pointer("previous"), machine.running())
    deployment.run_all()
    assert (machine.pointer("current"), machine.pointer("previous"), machine.running()) == before


def test_a_release_that_cannot_import_leaves_the_old_one_serving(machine, make_bundle):
    one = make_bundle("one")
    bad = make_bundle("bad", at_import="import no_such_module")
    machine.deploy(one)
    result = Deployment(machine, bad).run_until("ApplicationStart")
    assert result.code == 1
    assert "No module named 'no_such_module'" in result.reason
    assert f"Release {one.digest[:12]} still serves." in result.reason
    assert len(result.reason) < 2000
    assert machine.serving() == one.digest
    assert machine.running() == units(one.digest)
    assert machine.pointer("current") == one.digest
    # The next good one goes through, after the bad one's ApplicationStop.
    machine.deploy(make_bundle("two"))
    assert machine.serving() == make_bundle("two").digest


def test_a_bad_first_release_leaves_nothing_running(machine, make_bundle):
    bad = make_bundle("bad", at_import="import no_such_module")
    result = Deployment(machine, bad).run_until("ApplicationStart")
    assert "No release has served here before." in result.reason
    assert machine.running() == set()
    assert machine.pointer("current") is None
    machine.deploy(make_bundle("one"))
    assert machine.serving() == make_bundle("one").digest


def test_a_release_that_is_never_ready_is_given_up_in_time(machine, make_bundle):
    one = make_bundle("one")
    machine.deploy(one)
    machine.lose_patience()
    machine.unready.touch()
    result = Deployment(machine, make_bundle("two")).run_until("ApplicationStart")
    assert result.code == 1
    assert "/readyz answers 503: the test says so, 3 s long" in result.reason
    assert machine.running() == units(one.digest)
    assert machine.serving() == one.digest


def test_a_release_that_fails_at_the_front_door_makes_room_for_the_one_before(machine, make_bundle):
    zero, one, two = make_bundle("zero"), make_bundle("one"), make_bundle("two")
    machine.deploy(zero)
    machine.deploy(one)
    deployment = Deployment(machine, two)
    assert deployment.run_until("ApplicationStart").code == 0
    assert machine.serving() == two.digest
    machine.lose_patience(5)
    machine.unready.touch()
    with deployment.hook("ValidateService") as hook:
        wait_until(lambda: "Putting" in (hook.stdout.readline() or "Putting"))
        machine.unready.unlink()
        output, _ = hook.communicate(timeout=60)
    assert hook.returncode == 1
    assert f"Release {one.digest[:12]} serves again." in output
    assert machine.serving() == one.digest
    assert machine.running() == units(one.digest)
    assert (machine.pointer("current"), machine.pointer("previous")) == (one.digest, zero.digest)


def test_a_first_release_that_fails_at_the_front_door_does_not_go_on(machine, make_bundle):
    deployment = Deployment(machine, make_bundle("one"))
    assert deployment.run_until("ApplicationStart").code == 0
    machine.lose_patience()
    machine.unready.touch()
    result = deployment.run("ValidateService")
    assert "There is no release to put back" in result.reason
    assert machine.running() == set()
    assert machine.pointer("current") is None


def test_validation_that_fails_later_puts_nothing_back(machine, make_bundle):
    machine.deploy(make_bundle("one"))
    two = machine.deploy(make_bundle("two"))
    machine.lose_patience()
    machine.unready.touch()
    result = two.run("ValidateService")
    assert "It had been confirmed before, so nothing was put back." in result.reason
    assert machine.pointer("current") == make_bundle("two").digest


def test_a_prepare_that_fails_stops_the_deployment_before_anything_is_started(machine, make_bundle):
    one = make_bundle("one")
    machine.deploy(one)
    bad = make_bundle("bad", in_prepare="sys.exit('CommandError: the database is away')")
    result = Deployment(machine, bad).run_until("AfterInstall")
    assert result.code == 1
    assert "`manage.py prepare` failed (exit 1): CommandError: the database is away" in result.reason
    assert machine.running() == units(one.digest)
    assert not (machine.home / "releases" / bad.digest).exists()
    assert machine.leftovers() == []


def test_a_release_has_no_name_until_it_is_prepared(machine, make_bundle):
    looks = "print('here:', [path.name for path in Path(__file__).resolve().parents[1].iterdir()])"
    one = make_bundle("one", in_prepare=looks)
    result = Deployment(machine, one).run_until("AfterInstall")
    assert f"here: ['.tmp-{one.digest}']" in result.output
    assert [path.name for path in (machine.home / "releases").iterdir()] == [one.digest]


def test_a_release_that_cannot_be_brought_to_the_disk_has_no_name(machine, make_bundle, tmp_path):
    one, two = make_bundle("one"), make_bundle("two")
    machine.deploy(one)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sync").write_text("#!/bin/sh\necho 'sync: error syncing: Input/output error'\nexit 1\n")
    (broken / "sync").chmod(0o755)
    deployment = Deployment(machine, two)
    deployment.run_until("Install")
    path = deployment.environ("AfterInstall")["PATH"]
    result = deployment.run("AfterInstall", PATH=f"{broken}:{path}")
    assert result.code == 1
    assert "AfterInstall failed in step publish: sync failed (exit 1): sync: error syncing" in result.reason
    assert not (machine.home / "releases" / two.digest).exists()
    assert machine.leftovers() == []
    assert machine.serving() == one.digest
    deployment.run_all()
    assert machine.serving() == two.digest


def test_a_release_that_was_moved_away_is_prepared_when_it_is_made_again(machine, make_bundle):
    one = make_bundle("one")
    machine.deploy(one)
    machine.deploy(make_bundle("two"))
    (machine.home / "releases" / one.digest).rename(machine.home / "moved-away")
    result = Deployment(machine, one).run_until("AfterInstall")
    assert f"prepared {machine.home / 'static'}" in result.output


def test_a_reboot_starts_exactly_the_current_release(machine, make_bundle):
    machine.deploy(make_bundle("one"))
    machine.deploy(make_bundle("two"))
    machine.up.power_off()
    machine.boot()
    two = make_bundle("two").digest
    wait_until(lambda: machine.running() == units(two))
    assert machine.serving() == two


def test_traffic_hooks_warm_up_or_do_nothing(machine, make_bundle):
    deployment = machine.deploy(make_bundle("one"))
    for event in ("BeforeBlockTraffic", "AfterBlockTraffic", "BeforeAllowTraffic", "AfterAllowTraffic"):
        result = deployment.run(event)
        assert result.code == 0, result.output
    machine.lose_patience()
    machine.unready.touch()
    assert deployment.run("BeforeAllowTraffic").code == 1
    assert deployment.run("BeforeBlockTraffic").code == 0
