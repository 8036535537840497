"""How a promotion follows its deployment."""

from datetime import UTC, datetime

import pytest
from django.db import transaction

from apps.deployments.models import Deployment, HookEvent, Target
from apps.ledger.models import Entry
from apps.promotions.models import Promotion
from apps.promotions.services import follow_deployment, start_promotion
from tests.factories import make_deployment, make_promotion
from tests.promotions.cast import Cast

pytestmark = pytest.mark.django_db
FAR = datetime(2100, 1, 1, tzinfo=UTC)
Status = Promotion.Status


@pytest.fixture
def promotion():
    promotion = Cast().request()
    assert start_promotion(promotion=promotion)
    return promotion


def move(promotion, status, *targets, **fields):
    """Put the deployment into a state with hosts (name, status, event, its status), and follow."""
    deployment = promotion.deployment
    if status != Deployment.Status.INTENDED:
        deployment.codedeploy_id = deployment.codedeploy_id or "d-1"
    deployment.status = status
    for name, value in fields.items():
        setattr(deployment, name, value)
    deployment.save()
    for name, target_status, event, event_status in targets:
        target, _ = Target.objects.update_or_create(
            deployment=deployment, target_id=name, defaults={"status": target_status}
        )
        HookEvent.objects.update_or_create(
            target=target, name=event, defaults={"status": event_status, "position": 1, "message": "exit 1"}
        )
    with transaction.atomic():
        follow_deployment(deployment)
    promotion.refresh_from_db()
    return promotion


def test_it_verifies_when_every_host_proves_the_release(promotion):
    one = ("h1", "InProgress", "ValidateService", "InProgress")
    other = ("h2", "InProgress", "AfterInstall", "InProgress")
    assert move(promotion, "running", one, other).status == Status.DEPLOYING
    proving = ("h2", "InProgress", "ValidateService", "InProgress")
    assert move(promotion, "running", one, proving).status == Status.VERIFYING
    assert move(promotion, "running").status == Status.VERIFYING
    assert Entry.objects.filter(action="promotion.verifying").count() == 1


def test_success_on_every_host_is_success(promotion):
    move(promotion, "succeeded", ("h1", "Succeeded", "ValidateService", "Succeeded"))
    assert promotion.status == Status.SUCCEEDED
    assert promotion.finished_at is not None


def test_success_that_left_a_host_behind_is_a_failure(promotion):
    good = ("h1", "Succeeded", "ValidateService", "Succeeded")
    bad = ("h2", "Failed", "ValidateService", "Failed")
    move(promotion, "succeeded", good, bad)
    assert promotion.status == Status.FAILED
    assert promotion.reason == "CodeDeploy calls it a success, but not for h2."


def test_success_on_no_host_at_all_is_a_failure(promotion):
    assert move(promotion, "succeeded").status == Status.FAILED


def test_a_failed_hook_is_the_releases_fault(promotion):
    move(promotion, "failed", ("h1", "Failed", "ApplicationStart", "Failed"))
    assert promotion.status == Status.FAILED
    assert promotion.reason == "ApplicationStart failed on h1: exit 1"
    entry = Entry.objects.get(action="promotion.failed")
    assert entry.data["reason"] == promotion.reason


def test_a_failed_download_is_not(promotion):
    assert move(promotion, "failed", ("h1", "Failed", "DownloadBundle", "Failed")).status == Status.ERRORED


def test_a_refusal_by_aws_is_not(promotion):
    move(promotion, "failed", error_code="NO_INSTANCES", error_message="No instances found.")
    assert promotion.status == Status.ERRORED
    assert promotion.reason == "No instances found (NO_INSTANCES)."


def test_a_stopped_deployment_is_not(promotion):
    move(promotion, "stopped", error_message="Manually stopped")
    assert promotion.status == Status.ERRORED
    assert "was stopped in CodeDeploy: Manually stopped" in promotion.reason


def test_following_twice_records_once(promotion):
    move(promotion, "stopped")
    move(promotion, "stopped")
    assert Entry.objects.filter(action="promotion.errored").count() == 1


def test_a_foreign_deployment_has_no_promotion_to_move(promotion):
    follow_deployment(make_deployment(status="failed"))
    promotion.refresh_from_db()
    assert promotion.status == Status.DEPLOYING


@pytest.mark.django_db(transaction=True)
def test_an_end_wakes_the_next_one_here_and_this_release_further_down(promotion):
    release = promotion.release
    environments = release.service.environments
    next_here = make_promotion(promotion.environment, lease_until=FAR)
    below = make_promotion(environments.get(slug="production"), release, lease_until=FAR)
    unrelated = make_promotion(environments.get(slug="production"), lease_until=FAR)
    move(promotion, "succeeded", ("h1", "Succeeded", "ValidateService", "Succeeded"))
    resting = Promotion.objects.filter(lease_until__isnull=False)
    assert list(resting) == [unrelated]
    assert {next_here.pk, below.pk} <= set(
        Promotion.objects.filter(lease_until=None).values_list("pk", flat=True)
    )
