"""Hooks killed at any step and run again end where an undisturbed run ends."""

import time

import pytest

from tests.hooks.agent import EVENTS, Deployment, wait_until
from tests.hooks.test_hooks_deployment import units

pytestmark = pytest.mark.integration


def whole(machine):
    """Whether every release and environment on the host is one that was finished."""
    releases = list((machine.home / "releases").iterdir())
    environments = list((machine.home / "venvs").iterdir())
    return (
        all((release / "release.json").is_file() for release in releases if not release.name.startswith("."))
        and all((e / "bin/gunicorn").is_file() for e in environments if not e.name.startswith("."))
        and machine.leftovers() == []
    )


def begun(folder):
    """A condition: a temporary folder has appeared in ``folder``."""
    return lambda: any(folder.glob(".tmp-*"))


@pytest.mark.parametrize("where", ["venvs", "releases"])
def test_killed_while_a_folder_is_made(machine, make_bundle, where):
    one = make_bundle("one")
    deployment = Deployment(machine, one)
    deployment.run_until("Install")
    assert deployment.kill("AfterInstall", begun(machine.home / where))
    assert not (machine.home / "releases" / one.digest).exists()
    Deployment(machine, one).run_all()
    assert machine.serving() == one.digest
    assert whole(machine)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_killed_at_any_moment_of_after_install(machine, make_bundle, share):
    one = make_bundle("one")
    rehearsal = Deployment(machine, one)
    rehearsal.run_until("Install")
    began = time.monotonic()
    rehearsal.run("AfterInstall")
    moment = (time.monotonic() - began) * share
    # The other has other files, so all but the environment is made anew.
    two = make_bundle("two")
    deployment = Deployment(machine, two)
    deployment.run_until("Install")
    end = time.monotonic() + moment
    deployment.kill("AfterInstall", lambda: time.monotonic() > end)
    assert deployment.run("AfterInstall").code == 0
    assert whole(machine)


def test_what_a_killed_hook_had_started_does_not_go_on(machine, make_bundle):
    flag = "open(os.environ['UNREADY_FILE']"
    script = f"{flag} + '.begun', 'w'); time.sleep(2); {flag}, 'w')"
    deployment = Deployment(machine, make_bundle("slow", in_prepare=script))
    deployment.run_until("Install")
    assert deployment.kill("AfterInstall", machine.unready.with_suffix(".begun").exists)
    time.sleep(3)
    assert not machine.unready.exists()


def test_killed_while_the_new_release_starts(machine, make_bundle):
    one, two = make_bundle("one"), make_bundle("two", at_import="time.sleep(2)")
    machine.deploy(one)
    deployment = Deployment(machine, two)
    deployment.run_until("AfterInstall")
    assert deployment.kill("ApplicationStart", lambda: len(machine.running()) > 3)
    assert machine.serving() == one.digest
    assert machine.pointer("current") == one.digest
    assert deployment.run("ApplicationStart").code == 0
    assert deployment.run("ValidateService").code == 0
    assert machine.running() == units(two.digest)
    assert (machine.pointer("current"), machine.pointer("previous")) == (two.digest, one.digest)


def test_killed_after_current_was_written_both_run_and_the_next_run_mends_it(machine, make_bundle):
    one, two = make_bundle("one"), make_bundle("two")
    machine.deploy(one)
    deployment = Deployment(machine, two)
    deployment.run_until("AfterInstall")
    assert deployment.kill("ApplicationStart", lambda: machine.pointer("current") == two.digest)
    deployment.run_until("ValidateService")
    assert machine.serving() == two.digest
    assert machine.running() == units(two.digest)
    # Not `two`, which working out the old release from `current` would give.
    assert machine.pointer("previous") == one.digest


def test_terminated_while_it_waits_it_puts_the_new_release_away(machine, make_bundle):
    """The agent sends TERM to the process group when a hook takes too long."""
    one, two = make_bundle("one"), make_bundle("two", at_import="time.sleep(5)")
    machine.deploy(one)
    deployment = Deployment(machine, two)
    deployment.run_until("AfterInstall")
    with deployment.hook("ApplicationStart") as hook:
        wait_until(lambda: len(machine.running()) > 3)
        hook.terminate()
        output, _ = hook.communicate(timeout=30)
    assert hook.returncode == 1
    assert "Stopped by SIGTERM" in output
    assert f"Release {one.digest[:12]} still serves." in output
    assert machine.running() == units(one.digest)


def test_power_lost_before_and_after_the_pointer_moved(machine, make_bundle):
    one, two = make_bundle("one"), make_bundle("two", at_import="time.sleep(1)")
    machine.deploy(one)
    deployment = Deployment(machine, two)
    deployment.run_until("AfterInstall")
    for moved, expected in ((False, one), (True, two)):
        before = machine.pointer("current")
        with deployment.hook("ApplicationStart") as hook:
            if moved:
                wait_until(lambda before=before: machine.pointer("current") != before)
            else:
                wait_until(lambda: len(machine.running()) > 3)
            hook.kill()
            machine.up.power_off()
        machine.boot()
        wait_until(lambda expected=expected: machine.running() == units(expected.digest))
        assert machine.serving() == expected.digest
    assert deployment.run("ValidateService").code == 0


def test_a_second_deployment_waits_for_the_lock_and_names_its_holder(machine, make_bundle):
    slow = Deployment(machine, make_bundle("slow", in_prepare="time.sleep(4)"))
    slow.run_until("Install")
    other = Deployment(machine, make_bundle("one"))
    with slow.hook("AfterInstall") as hook:
        wait_until(lambda: (machine.home / "state/lock").read_text().strip() == str(hook.pid))
        result = other.run("BeforeInstall")
        hook.communicate(timeout=60)
    assert result.code == 0
    assert f"waiting for the lock, which process {hook.pid} holds" in result.output


def test_every_event_of_a_deployment_may_run_twice(machine, make_bundle):
    deployment = Deployment(machine, make_bundle("one"))
    for event in EVENTS:
        for _ in range(2):
            result = deployment.run(event)
            assert result.code == 0, result.output
    assert machine.running() == units(make_bundle("one").digest)
    assert whole(machine)
