"""Whatever has not ended says what it waits for."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.deployments.models import Deployment
from apps.deployments.waits import waits_for

NOW = timezone.now()


def sentence(**fields):
    defaults = {"status": "intended", "codedeploy_id": None}
    return waits_for(Deployment(**{**defaults, **fields}), at=NOW)


def test_an_intent_that_nobody_took():
    assert "has not been told yet" in sentence()


def test_an_intent_in_its_grace():
    said = sentence(asked_at=NOW)
    assert f"CreateDeployment was sent at {NOW:%H:%M:%S} UTC" in said
    assert "asks again only when" in said


@pytest.mark.parametrize("status", ["intended", "requested", "running"])
def test_what_aws_said_comes_first(status):
    assert sentence(status=status, asked_at=NOW, error_message="Rate exceeded.") == "Rate exceeded."


def test_a_worker_that_died_with_its_lease_is_named():
    held = {"lease_owner": "host:17:ab", "lease_until": NOW + timedelta(seconds=1)}
    assert "fell silent" not in sentence(**held)
    held["lease_until"] = NOW
    assert "The worker host:17:ab fell silent; another one takes over." in sentence(**held)
    # Without an owner the row only rests.
    assert "fell silent" not in sentence(lease_until=NOW - timedelta(hours=1))


def test_codedeploy_is_named_with_its_own_id():
    assert sentence(status="requested", codedeploy_id="d-1") == "CodeDeploy has it as d-1 and has not begun."
    assert sentence(status="running", codedeploy_id="d-1") == "CodeDeploy is at work on d-1."


@pytest.mark.parametrize("status", Deployment.FINAL)
def test_what_has_ended_waits_for_nothing(status):
    assert sentence(status=status, codedeploy_id="d-1", error_message="x", lease_owner="w") == ""


def test_every_active_status_says_something():
    for status in Deployment.ACTIVE:
        for asked in (None, NOW):
            assert sentence(status=status, codedeploy_id="d-1", asked_at=asked)
