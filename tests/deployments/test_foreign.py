"""Deployments that Lockkeeper did not ask for: seen, written down, and what they say of what runs."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from django.utils import timezone

from apps.aws.errors import AwsError
from apps.deployments import foreign
from apps.deployments.foreign import intruder, look_for_foreign, origin_in_words, watch_groups
from apps.deployments.models import Deployment, GroupWatch, Occupancy
from apps.deployments.services import description_of, observe_deployment, request_deployment
from apps.leases import LeaseLost, take
from apps.ledger.models import Entry
from tests.deployments.fake import BUSY, NO_ANSWER, NO_GROUP, FakeCodeDeploy
from tests.factories import make_deployment, make_environment, make_occupancy, make_release

pytestmark = pytest.mark.django_db(transaction=True)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def aws(monkeypatch):
    return FakeCodeDeploy().install(monkeypatch)


@pytest.fixture
def environment():
    return make_environment()


def lease_of(row):
    lease = take(type(row).objects.filter(pk=row.pk), owner="test", duration=timedelta(seconds=30))
    assert lease is not None
    return lease


def look(environment):
    """One look at an environment's group."""
    watch_groups()
    watch = GroupWatch.objects.get(environment=environment)
    GroupWatch.objects.update(lease_owner="", lease_until=None)
    lease = lease_of(watch)
    rest = look_for_foreign(watch=watch, lease=lease)
    lease.release(rest)
    return rest


def follow(codedeploy_id):
    """See how far it is, as the reconciler does."""
    deployment = Deployment.objects.get(codedeploy_id=codedeploy_id)
    lease = lease_of(deployment)
    observe_deployment(deployment=deployment, lease=lease)
    lease.release()
    return Deployment.objects.get(pk=deployment.pk)


def arrive(environment, release=None, ago=MINUTE * 30):
    """A release that Lockkeeper brought there."""
    release = release or make_release(environment.service)
    at = timezone.now() - ago
    environment.occupancies.filter(until=None).update(until=at)
    return make_occupancy(make_deployment(environment, release, finished_at=at), since=at)


def current(environment):
    return Occupancy.objects.current().filter(environment=environment).first()


class TestSeen:
    def test_one_from_the_console_is_written_down_with_its_release(self, aws, environment):
        release = make_release(environment.service)
        key = aws.foreign(release, environment, description="hotfix at night")
        look(environment)
        deployment = Deployment.objects.get()
        assert (deployment.codedeploy_id, deployment.origin, deployment.creator) == (key, "outside", "user")
        assert (deployment.release, deployment.status) == (release, "requested")
        assert origin_in_words(deployment) == (
            f"Somebody deployed {release.version} without Lockkeeper, by the console or the API (creator "
            "user), saying “hotfix at night”. No gate has judged it."
        )
        entry = Entry.objects.get(action="deployment.seen")
        assert entry.data["creator"] == "user"
        assert entry.data["release"] == release.version

    def test_once_only(self, aws, environment):
        aws.foreign(make_release(environment.service), environment)
        look(environment)
        look(environment)
        assert Deployment.objects.count() == 1
        assert Entry.objects.filter(action="deployment.seen").count() == 1

    def test_what_is_no_release_is_said_to_be_unknown(self, aws, environment):
        aws.foreign(None, environment)
        look(environment)
        deployment = Deployment.objects.get()
        assert deployment.release is None
        assert "github.com/shop/shop at abc, which is no known release," in origin_in_words(deployment)

    @pytest.mark.parametrize("other", [{"version": "2"}, {"etag": "0" * 32}, {"key": "x"}, {"bucket": "x"}])
    def test_another_version_of_a_releases_key_is_no_release(self, aws, environment, other):
        release = make_release(environment.service)
        key = aws.foreign(release, environment)
        info = aws.deployments[key]
        aws.deployments[key] = replace(info, revision=replace(info.revision, **other))
        look(environment)
        assert Deployment.objects.get().release is None

    def test_a_key_without_a_version_is_its_release(self, aws, environment):
        release = make_release(environment.service)
        key = aws.foreign(release, environment)
        info = aws.deployments[key]
        aws.deployments[key] = replace(info, revision=replace(info.revision, version="", etag=""))
        look(environment)
        assert Deployment.objects.get().release == release

    def test_ours_is_not_foreign(self, aws, environment):
        deployment = make_deployment(environment, status="intended", codedeploy_id=None)
        lease = lease_of(deployment)
        aws.lost = [NO_ANSWER]
        with pytest.raises(AwsError):
            request_deployment(deployment=deployment, lease=lease)
        # CodeDeploy has it, and nobody here knows yet.
        look(environment)
        assert Deployment.objects.get() == deployment
        request_deployment(deployment=deployment, lease=lease)
        look(environment)
        assert Deployment.objects.get().codedeploy_id is not None

    def test_a_description_that_pretends_to_be_ours_is_foreign(self, aws, environment):
        ours = arrive(environment).deployment
        aws.foreign(None, environment, description=description_of(ours))
        aws.foreign(None, environment, description="lockkeeper:nonsense")
        look(environment)
        assert Deployment.objects.exclude(origin="lockkeeper").count() == 2

    def test_codedeploys_rollback_says_what_it_undoes(self, aws, environment):
        release = make_release(environment.service)
        aws.foreign(release, environment, creator="codeDeployRollback", rolls_back="d-000000007")
        look(environment)
        deployment = Deployment.objects.get()
        assert deployment.origin == "codedeploy_rollback"
        assert origin_in_words(deployment) == (
            f"CodeDeploy went back to {release.version} by itself, to undo deployment d-000000007."
        )

    def test_several_may_be_under_way_beside_ours(self, aws, environment):
        make_deployment(environment, status="running")
        for _ in range(3):
            aws.foreign(make_release(environment.service), environment, creator="autoscaling")
        look(environment)
        assert Deployment.objects.active().count() == 4

    def test_it_begins_with_what_came_after_what_runs(self, aws, environment):
        arrive(environment, ago=MINUTE * 30)
        aws.foreign(None, environment, created_at=timezone.now() - timedelta(hours=2))
        aws.foreign(None, environment, created_at=timezone.now() - MINUTE)
        look(environment)
        assert Deployment.objects.exclude(origin="lockkeeper").count() == 1

    def test_what_shows_late_is_seen_by_the_next_look(self, aws, environment):
        aws.foreign(None, environment)
        aws.hidden = True
        look(environment)
        assert not Deployment.objects.exists()
        aws.hidden = False
        look(environment)
        assert Deployment.objects.count() == 1


class TestTrouble:
    def test_aws_away_is_written_down_and_tried_again(self, aws, environment):
        aws.foreign(None, environment)
        aws.away = NO_ANSWER
        with pytest.raises(AwsError):
            look(environment)
        assert "read timeout" in GroupWatch.objects.get().problem
        aws.away = None
        look(environment)
        assert GroupWatch.objects.get().problem == ""
        assert Deployment.objects.count() == 1

    def test_a_group_that_is_not_there_yet_is_no_failure(self, aws, environment):
        aws.away = NO_GROUP
        assert look(environment) == foreign.LOOK_EVERY
        assert "no such group" in GroupWatch.objects.get().problem

    def test_who_lost_the_lease_writes_nothing(self, aws, environment):
        aws.foreign(None, environment)
        watch_groups()
        watch = GroupWatch.objects.get()
        lease = lease_of(watch)
        GroupWatch.objects.update(lease_fence=lease.fence + 1)
        with pytest.raises(LeaseLost):
            look_for_foreign(watch=watch, lease=lease)
        assert not Deployment.objects.exists()

    def test_a_busy_group_and_a_failure_have_it_looked_at_soon(self, aws, environment):
        look(environment)
        assert GroupWatch.objects.get().lease_until is not None
        aws.refusals = [BUSY]
        deployment = make_deployment(environment, status="intended", codedeploy_id=None)
        request_deployment(deployment=deployment, lease=lease_of(deployment))
        assert GroupWatch.objects.get().lease_until is None
        look(environment)
        key = aws.foreign(None, environment)
        look(environment)
        aws.set(key, "Failed")
        follow(key)
        assert GroupWatch.objects.get().lease_until is None


class TestOccupancy:
    """What it says of what runs."""

    def test_a_release_from_the_console_is_what_runs_then(self, aws, environment):
        before = arrive(environment)
        release = make_release(environment.service)
        key = aws.foreign(release, environment, status="Succeeded")
        look(environment)
        deployment = follow(key)
        before.refresh_from_db()
        assert current(environment).release == release
        assert current(environment).deployment == deployment
        assert before.until == deployment.finished_at

    def test_something_unknown_ends_what_was_known(self, aws, environment):
        before = arrive(environment)
        key = aws.foreign(None, environment, status="Succeeded")
        look(environment)
        deployment = follow(key)
        before.refresh_from_db()
        assert current(environment) is None
        assert before.until == deployment.finished_at
        assert intruder(environment) == deployment

    @pytest.mark.parametrize("creator", ["autoscaling", "autoscalingTermination", "CodeDeployAutoUpdate"])
    def test_new_hosts_change_nothing(self, aws, environment, creator):
        before = arrive(environment)
        key = aws.foreign(make_release(environment.service), environment, status="Succeeded", creator=creator)
        look(environment)
        deployment = follow(key)
        assert (deployment.origin, deployment.status) == ("auto_scaling", "succeeded")
        assert current(environment) == before
        assert "what runs in the environment is not changed" in origin_in_words(deployment)

    def test_codedeploys_rollback_brings_back_what_it_deployed(self, aws, environment):
        old = arrive(environment, ago=MINUTE * 60)
        arrive(environment)
        key = aws.foreign(old.release, environment, status="Succeeded", creator="codeDeployRollback")
        look(environment)
        follow(key)
        assert current(environment).release == old.release

    def test_back_to_what_runs_anyway_its_stay_goes_on(self, aws, environment):
        stay = arrive(environment)
        make_deployment(environment, status="failed")
        key = aws.foreign(stay.release, environment, status="Succeeded", creator="codeDeployRollback")
        look(environment)
        follow(key)
        assert current(environment) == stay
        assert Occupancy.objects.count() == 1

    def test_one_that_failed_changes_nothing(self, aws, environment):
        before = arrive(environment)
        key = aws.foreign(make_release(environment.service), environment, status="Failed")
        look(environment)
        assert follow(key).status == "failed"
        assert current(environment) == before

    def test_heard_of_late_it_takes_its_place_in_the_past(self, aws, environment):
        first = arrive(environment, ago=MINUTE * 60)
        arrive(environment, ago=MINUTE * 10)
        between = timezone.now() - MINUTE * 30
        release = make_release(environment.service)
        key = aws.foreign(release, environment, status="Succeeded", created_at=between)
        aws.set(key, "Succeeded", *aws.targets[key], completed_at=between)
        watch_groups()
        GroupWatch.objects.update(seen_until=first.since)
        look(environment)
        follow(key)
        stays = list(Occupancy.objects.order_by("since"))
        assert [stay.release for stay in stays] == [first.release, release, current(environment).release]
        for before, after in pairwise(stays):
            assert before.until == after.since
        assert stays[1].since == between

    def test_ours_heard_of_after_a_newer_foreign_one_does_not_replace_it(self, aws, environment):
        release, newer = make_release(environment.service), make_release(environment.service)
        ours = make_deployment(environment, release, status="requested", codedeploy_id="d-000000001")
        aws.foreign(release, environment)
        aws.deployments = {"d-000000001": replace(next(iter(aws.deployments.values())), id="d-000000001")}
        aws.succeed("d-000000001")
        earlier = timezone.now() - MINUTE * 5
        aws.set("d-000000001", "Succeeded", *aws.targets["d-000000001"], completed_at=earlier)
        key = aws.foreign(newer, environment, status="Succeeded")
        look(environment)
        follow(key)
        follow(ours.codedeploy_id)
        assert current(environment).release == newer
        assert Occupancy.objects.get(release=release).until == current(environment).since
