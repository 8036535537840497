"""How many hosts must stay healthy, by AWS's own tables."""

import pytest

from apps.sandbox.codedeploy.healthy import PREDEFINED, Config
from apps.sandbox.codedeploy.state import now


@pytest.mark.parametrize(
    ("config", "hosts", "minimum"),
    [
        ("OneAtATime", 1, 0),
        ("OneAtATime", 5, 4),
        ("OneAtATime", 200, 199),
        ("HalfAtATime", 1, 0),
        ("HalfAtATime", 4, 2),
        ("HalfAtATime", 5, 3),
        ("AllAtOnce", 5, 0),
    ],
)
def test_of_the_predefined_configurations(config, hosts, minimum):
    found = PREDEFINED[f"CodeDeployDefault.{config}"]
    assert found.minimum(hosts) == minimum
    assert found.can_succeed(hosts)


@pytest.mark.parametrize(
    ("kind", "value", "hosts", "at_once"),
    [
        ("HOST_COUNT", 6, 9, 3),
        ("FLEET_PERCENT", 40, 9, 5),  # 3.6 is rounded up
        ("FLEET_PERCENT", 0, 9, 9),
        ("FLEET_PERCENT", 95, 4, 0),
        ("FLEET_PERCENT", 50, 1, 0),
        ("HOST_COUNT", 2, 1, -1),
    ],
)
def test_of_ones_own(kind, value, hosts, at_once):
    config = Config("mine", kind, value, now())
    assert hosts - config.minimum(hosts) == at_once
    assert config.can_succeed(hosts) == (at_once > 0)


def test_one_host_must_succeed_even_where_none_need_stay_healthy():
    config = PREDEFINED["CodeDeployDefault.AllAtOnce"]
    assert not config.is_met(0, 5)
    assert config.is_met(1, 5)


def test_the_last_host_of_one_at_a_time_may_fail_but_not_a_lone_one():
    config = PREDEFINED["CodeDeployDefault.OneAtATime"]
    assert config.is_met(4, 5)
    assert not config.is_met(3, 5)
    assert not config.is_met(0, 1)
