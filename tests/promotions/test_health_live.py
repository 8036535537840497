"""Health and stays from what the embedded CodeDeploy tells of deployments and their hosts."""

from datetime import timedelta

import pytest

from apps.deployments.services import observe_deployment, request_deployment
from apps.leases import take
from apps.promotions.facts import gather
from tests.factories import make_deployment, make_environment, make_release, make_service
from tests.sandbox.deploying import Fleet, bundle, tar

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def fleet(aws, versioned_bucket):
    return Fleet(aws, versioned_bucket)


@pytest.fixture
def staging(fleet):
    return make_environment(make_service("shop"), application=fleet.name, deployment_group="group")


def release_of(fleet, environment, **scripts):
    """A release whose bundle lies in S3."""
    place = fleet.upload(tar(bundle(**scripts)))["s3Location"]
    return make_release(
        environment.service,
        bucket=place["bucket"],
        key=place["key"],
        object_version=place.get("version", ""),
        etag=place.get("eTag", "").strip('"'),
    )


def deploy(environment, release, fleet):
    """As the reconciler does: tell CodeDeploy, and follow it to its end."""
    deployment = make_deployment(environment, release, status="intended", codedeploy_id=None)
    for step in (request_deployment, observe_deployment):
        lease = take(
            type(deployment).objects.filter(pk=deployment.pk), owner="t", duration=timedelta(minutes=2)
        )
        assert lease is not None
        step(deployment=deployment, lease=lease)
        lease.release()
        deployment.refresh_from_db()
        if step is request_deployment:
            fleet.wait(deployment.codedeploy_id)
    return deployment


def test_a_failure_ends_a_stay_and_the_next_success_begins_one(fleet, staging):
    production = make_environment(staging.service, "production", upstreams=(staging,))
    good = release_of(fleet, staging, AfterInstall="echo good")
    bad = release_of(fleet, staging, ValidateService="exit 1")

    def upstream():
        (told,) = gather(release=good, environment=production).upstreams
        return told

    assert upstream().health.state == "empty"
    first = deploy(staging, good, fleet)
    assert upstream().health.state == "healthy"
    (stay,) = upstream().stays
    assert (stay.since, stay.until) == (first.finished_at, None)

    failed = deploy(staging, bad, fleet)
    assert failed.status == "failed"
    assert upstream().health.state == "unhealthy"
    (stay,) = upstream().stays
    assert (stay.since, stay.until) == (first.finished_at, failed.started_at)

    again = deploy(staging, good, fleet)
    assert upstream().health.state == "healthy"
    assert upstream().stays[0] == stay
    assert (upstream().stays[-1].since, upstream().stays[-1].until) == (again.finished_at, None)
