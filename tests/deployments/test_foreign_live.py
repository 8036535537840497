"""Foreign deployments on the embedded CodeDeploy: from the console, and its own rollback."""

from datetime import timedelta

import pytest

from apps.deployments.foreign import look_for_foreign, watch_groups
from apps.deployments.models import Deployment, GroupWatch, Occupancy
from apps.deployments.services import observe_deployment, request_deployment
from apps.leases import take
from apps.ledger.models import Entry
from tests.factories import make_deployment, make_environment, make_release, make_service
from tests.sandbox.deploying import Fleet, bundle, tar

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def fleet(aws, versioned_bucket):
    return Fleet(
        aws,
        versioned_bucket,
        autoRollbackConfiguration={"enabled": True, "events": ["DEPLOYMENT_FAILURE"]},
    )


@pytest.fixture
def environment(fleet):
    return make_environment(make_service("shop"), application=fleet.name, deployment_group="group")


def release_of(fleet, environment, **scripts):
    """A release whose bundle lies in S3, and its revision as CodeDeploy takes it."""
    revision = fleet.upload(tar(bundle(**scripts)))
    place = revision["s3Location"]
    release = make_release(
        environment.service,
        bucket=place["bucket"],
        key=place["key"],
        object_version=place.get("version", ""),
        etag=place.get("eTag", "").strip('"'),
    )
    return release, revision


def leased(row):
    lease = take(type(row).objects.filter(pk=row.pk), owner="test", duration=timedelta(minutes=2))
    assert lease is not None
    return lease


def deploy(environment, release, fleet):
    """As the reconciler does: tell CodeDeploy, and follow it to its end."""
    deployment = make_deployment(environment, release, status="intended", codedeploy_id=None)
    lease = leased(deployment)
    request_deployment(deployment=deployment, lease=lease)
    lease.release()
    deployment.refresh_from_db()
    return follow(deployment, fleet)


def follow(deployment, fleet):
    fleet.wait(deployment.codedeploy_id)
    lease = leased(deployment)
    observe_deployment(deployment=deployment, lease=lease)
    lease.release()
    deployment.refresh_from_db()
    return deployment


def look(environment):
    """One look; returns what was new in it."""
    known = set(Deployment.objects.values_list("pk", flat=True))
    watch_groups()
    GroupWatch.objects.update(lease_until=None)
    watch = GroupWatch.objects.get(environment=environment)
    lease = leased(watch)
    lease.release(look_for_foreign(watch=watch, lease=lease))
    return list(Deployment.objects.exclude(pk__in=known))


def runs(environment):
    return Occupancy.objects.current().get(environment=environment).release


def test_what_others_deploy_is_seen_and_corrects_what_runs(fleet, environment):
    first, _ = release_of(fleet, environment, AfterInstall="echo first")
    second, revision = release_of(fleet, environment, AfterInstall="echo second")
    assert deploy(environment, first, fleet).status == "succeeded"
    assert look(environment) == []
    assert runs(environment) == first

    # Somebody at the console.
    by_hand = fleet.start(revision, description="by hand, at night")
    (seen,) = look(environment)
    assert (seen.codedeploy_id, seen.origin, seen.release) == (by_hand, "outside", second)
    assert (seen.creator, seen.description) == ("user", "by hand, at night")
    assert follow(seen, fleet).status == "succeeded"
    assert runs(environment) == second
    assert seen.targets.get().status == "Succeeded"

    # And with something that no build of ours made.
    fleet.wait(fleet.start(fleet.upload(tar(bundle(AfterInstall="echo unknown")))))
    (unknown,) = look(environment)
    assert unknown.release is None
    assert unknown.revision.startswith(f"s3://{fleet.bucket}/")
    follow(unknown, fleet)
    assert not Occupancy.objects.current().exists()
    assert Entry.objects.filter(action="deployment.seen").count() == 2


def test_codedeploys_own_rollback_is_no_mystery(fleet, environment):
    good, _ = release_of(fleet, environment, AfterInstall="echo good")
    bad, _ = release_of(fleet, environment, ValidateService="exit 1")
    deploy(environment, good, fleet)
    stay = Occupancy.objects.get()
    failed = deploy(environment, bad, fleet)
    assert failed.status == "failed"
    (rollback,) = look(environment)
    assert (rollback.origin, rollback.release) == ("codedeploy_rollback", good)
    assert rollback.rolls_back == failed.codedeploy_id
    assert follow(rollback, fleet).status == "succeeded"
    # What ran before runs on.
    assert Occupancy.objects.get() == stay
    assert stay.until is None
