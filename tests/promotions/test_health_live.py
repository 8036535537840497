"""Health and stays from what the embedded CodeDeploy tells of deployments and their hosts."""

import pytest

from apps.promotions.facts import gather
from tests.deployments.test_foreign_live import deploy, follow, look, release_of
from tests.factories import make_environment, make_service
from tests.sandbox.deploying import Fleet

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def fleet(aws, versioned_bucket):
    rollback = {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}
    return Fleet(aws, versioned_bucket, autoRollbackConfiguration=rollback)


@pytest.fixture
def staging(fleet):
    return make_environment(make_service("shop"), application=fleet.name, deployment_group="group")


def test_a_failure_ends_a_stay_and_the_next_success_begins_one(fleet, staging):
    production = make_environment(staging.service, "production", upstreams=(staging,))
    good, _ = release_of(fleet, staging, AfterInstall="echo good")
    bad, _ = release_of(fleet, staging, ValidateService="exit 1")

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

    # CodeDeploy's own rollback, by which the release has never ceased to be current.
    (rollback,) = look(staging)
    rollback = follow(rollback, fleet)
    assert upstream().health.state == "healthy"
    assert (upstream().until, upstream().stays[0]) == (None, stay)
    assert (upstream().stays[-1].since, upstream().stays[-1].until) == (rollback.finished_at, None)

    again = deploy(staging, good, fleet)
    assert upstream().deployment_id == again.pk
    assert (upstream().stays[-1].since, upstream().stays[-1].until) == (rollback.finished_at, None)
