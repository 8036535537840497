"""Hooks killed at every command of their Bash and before every change that their Python makes to the world.

`.ci/full` runs this; it takes long, and test_hooks_sweep has the same for the steps.
"""

import sys

import pytest

from tests.hooks.laboratory import ALL_EVENTS, HOOKS, Laboratory

pytestmark = [pytest.mark.integration, pytest.mark.full]
# Read by every Bash through BASH_ENV. Only the hook itself counts; 0 is its process group.
TRAP = """
if [[ $0 == */deployment-archive/scripts/codedeploy/* ]]; then
    commands=0
    set -T
    trap '((commands++ != KILL_COMMAND)) || kill -KILL 0' DEBUG
fi
"""
HAVE_HOOKS = [event for event in ALL_EVENTS if event != "Install"]


# It ends the search for the number of the last kill.
ENOUGH = 3000


@pytest.fixture(scope="module")
def make_laboratory(tmp_path_factory, wheelhouse):
    """A function that makes a host, or gives the one that was made before."""
    made = {}

    def make(*, own_locks):
        if own_locks not in made:
            folder = tmp_path_factory.mktemp("full")
            made[own_locks] = Laboratory(folder, wheelhouse, own_locks=own_locks, exact=True)
            (folder / "trap.bash").write_text(TRAP)
        return made[own_locks]

    yield make
    for laboratory in made.values():
        laboratory.machine.up.power_off()


@pytest.fixture
def tell(request, capsys):
    """A function that says how many kills there were."""

    def say(number):
        with capsys.disabled():
            sys.stdout.write(f"\n{request.node.name}: {number} kills\n")

    return say


@pytest.mark.parametrize("event", HAVE_HOOKS)
def test_killed_at_every_command(make_laboratory, event, tell):
    laboratory = make_laboratory(own_locks=False)
    trap = str(laboratory.folder / "trap.bash")
    for number in range(ENOUGH):
        if not laboratory.kill(event, BASH_ENV=trap, KILL_COMMAND=str(number)):
            break
        laboratory.deploy_again()
    tell(number)
    laboratory.finish()
    assert 4 < number < ENOUGH - 1


@pytest.mark.parametrize("event", HOOKS)
def test_killed_before_every_change(make_laboratory, event, tell):
    laboratory = make_laboratory(own_locks=False)
    for number in range(ENOUGH):
        if not laboratory.kill(event, KILL_AT=f"{number} change"):
            break
        laboratory.deploy_again()
    tell(number)
    laboratory.finish()
    assert 10 < number < ENOUGH - 1


def test_killed_before_every_change_while_an_environment_is_built(make_laboratory, tell):
    laboratory = make_laboratory(own_locks=True)
    for number in range(ENOUGH):
        assert laboratory.kill("AfterInstall", KILL_AT=f"{number} change")
        complete = any("venvs/NEW-ENVIRONMENT " in line for line in laboratory.state())
        laboratory.deploy_again()
        if complete:  # what comes then is in the tests above
            break
    tell(number)
    assert 10 < number < ENOUGH - 1
