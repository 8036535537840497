from datetime import timedelta

import pytest
from django.utils import timezone

from apps.aws.errors import AwsError
from apps.deployments.models import Deployment, FlightWatch, HookEvent, Occupancy, Target
from apps.deployments.services import (
    BUSY_REST,
    GRACE,
    POLL,
    description_of,
    failure_of,
    observe_deployment,
    request_deployment,
)
from apps.leases import LeaseLost, take
from apps.ledger.models import Entry
from tests.deployments.fake import BUSY, NO_ANSWER, NO_GROUP, THROTTLED, FakeCodeDeploy, host
from tests.factories import make_deployment, make_occupancy, make_record

pytestmark = pytest.mark.django_db
Status = Deployment.Status


@pytest.fixture
def aws(monkeypatch):
    return FakeCodeDeploy().install(monkeypatch)


@pytest.fixture
def deployment():
    return make_deployment(status=Status.INTENDED, codedeploy_id=None)


def lease_of(deployment):
    return take(Deployment.objects.filter(pk=deployment.pk), owner="test", duration=timedelta(seconds=30))


def request(deployment, **options):
    lease = lease_of(deployment)
    try:
        return request_deployment(deployment=deployment, lease=lease, **options)
    finally:
        deployment.refresh_from_db()
        lease.release()


def observe(deployment, **options):
    lease = lease_of(deployment)
    try:
        return observe_deployment(deployment=deployment, lease=lease, **options)
    finally:
        deployment.refresh_from_db()
        lease.release()


def long_ago(deployment):
    """The last CreateDeployment was sent longer ago than the grace."""
    Deployment.objects.filter(pk=deployment.pk).update(asked_at=timezone.now() - GRACE)


class TestRequest:
    def test_it_asks_once_with_the_intent_in_the_description(self, aws, deployment):
        assert request(deployment) == timedelta(0)
        (made,) = aws.deployments.values()
        assert deployment.status == Status.REQUESTED
        assert deployment.codedeploy_id == made.id
        assert made.description == f"lockkeeper:{deployment.intent}"
        assert made.revision.version == deployment.release.object_version
        assert made.revision.etag == deployment.release.etag
        assert Entry.objects.get(action="deployment.requested").data["codedeploy_id"] == made.id
        request(deployment)
        assert aws.asked == 1

    def test_no_answer_although_it_was_made_is_found_and_not_asked_again(self, aws, deployment):
        aws.lost = [NO_ANSWER]
        with pytest.raises(AwsError):
            request(deployment)
        assert deployment.status == Status.INTENDED
        assert "did not answer" in deployment.error_message
        request(deployment)
        assert deployment.codedeploy_id == "d-000000001"
        assert deployment.error_message == ""
        assert aws.asked == 1

    def test_what_is_not_shown_yet_is_waited_for_and_not_asked_again(self, aws, deployment):
        aws.lost, aws.hidden = [NO_ANSWER], True
        with pytest.raises(AwsError):
            request(deployment)
        for _ in range(3):
            assert request(deployment) == POLL
        assert "looking for" in deployment.error_message
        aws.hidden = False
        request(deployment)
        assert deployment.status == Status.REQUESTED
        assert aws.asked == 1

    def test_no_answer_and_nothing_made_is_asked_again_after_the_grace_only(self, aws, deployment):
        aws.refusals = [NO_ANSWER]
        with pytest.raises(AwsError):
            request(deployment)
        request(deployment)
        assert aws.asked == 1
        long_ago(deployment)
        request(deployment)
        assert aws.asked == 2
        assert deployment.status == Status.REQUESTED

    def test_a_worker_killed_before_writing_the_answer_is_followed_by_one_that_finds_it(
        self, aws, deployment, monkeypatch
    ):
        def die(*args):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("apps.deployments.services._requested", die)
            with pytest.raises(KeyboardInterrupt):
                request(deployment)
        assert deployment.codedeploy_id is None
        request(deployment)
        assert deployment.codedeploy_id == "d-000000001"
        assert aws.asked == 1

    def test_a_busy_group_is_waited_for_and_says_why(self, aws, deployment):
        aws.refusals = [BUSY, None]
        assert request(deployment) == BUSY_REST
        assert deployment.status == Status.INTENDED
        assert "busy with d-FOREIGN" in deployment.error_message
        # Nothing was made, so there is no grace to wait for.
        request(deployment)
        assert deployment.status == Status.REQUESTED
        assert deployment.error_code == ""

    def test_a_group_that_is_busy_with_this_very_intent_is_success(self, aws, deployment):
        aws.lost, aws.hidden = [NO_ANSWER], True
        with pytest.raises(AwsError):
            request(deployment)
        long_ago(deployment)
        aws.refusals = [BUSY]
        request(deployment)
        aws.hidden = False
        request(deployment)
        assert deployment.codedeploy_id == "d-000000001"
        assert len(aws.deployments) == 1

    def test_throttling_is_certain_and_tried_again_without_a_grace(self, aws, deployment):
        aws.refusals = [THROTTLED]
        with pytest.raises(AwsError):
            request(deployment)
        assert "slow down" in deployment.error_message
        request(deployment)
        assert deployment.status == Status.REQUESTED

    def test_a_definite_refusal_ends_it(self, aws, deployment):
        aws.refusals = [NO_GROUP]
        moved = []
        request(deployment, moved=moved.append)
        assert deployment.status == Status.FAILED
        assert deployment.error_code == "DeploymentGroupDoesNotExistException"
        assert moved[0].status == Status.FAILED
        assert failure_of(deployment).sentence.startswith("CodeDeploy: DeploymentGroupDoesNotExist")
        assert not failure_of(deployment).by_release
        assert Entry.objects.filter(action="deployment.failed").exists()

    def test_without_the_lease_nothing_is_asked(self, aws, deployment):
        lease = lease_of(deployment)
        Deployment.objects.filter(pk=deployment.pk).update(lease_until=timezone.now())
        lease_of(deployment)
        with pytest.raises(LeaseLost):
            request_deployment(deployment=deployment, lease=lease)
        assert aws.asked == 0

    def test_a_worker_that_slept_before_sending_does_not_send(self, aws, deployment, monkeypatch):
        ticks = iter([100.0, 200.0])
        lease = lease_of(deployment)
        monkeypatch.setattr("time.monotonic", lambda: next(ticks))
        with pytest.raises(LeaseLost):
            request_deployment(deployment=deployment, lease=lease)
        assert aws.asked == 0

    def test_a_deployment_of_another_intent_is_not_taken_for_ours(self, aws, deployment):
        aws.lost = [NO_ANSWER]
        with pytest.raises(AwsError):
            request(deployment)
        aws.set("d-000000001", "Created", description="lockkeeper:00000000-0000-0000-0000-000000000000")
        assert request(deployment) == POLL
        assert deployment.codedeploy_id is None


class TestObserve:
    @pytest.fixture(autouse=True)
    def requested(self, aws, deployment):
        request(deployment)

    def test_a_running_deployment_shows_its_hosts_and_events(self, aws, deployment):
        events = (("ApplicationStop", "Succeeded"), ("BeforeInstall", "InProgress"))
        aws.set(deployment.codedeploy_id, "InProgress", host("staging-1", *events, status="InProgress"))
        assert observe(deployment) == POLL
        assert deployment.status == Status.RUNNING
        assert deployment.started_at is not None
        seen = HookEvent.objects.filter(target__deployment=deployment)
        assert [(event.name, event.status) for event in seen] == list(events)
        events = (("ApplicationStop", "Succeeded"), ("BeforeInstall", "Succeeded"))
        aws.set(deployment.codedeploy_id, "InProgress", host("staging-1", *events, status="InProgress"))
        observe(deployment)
        assert [(event.name, event.status) for event in seen.all()] == list(events)
        assert Target.objects.count() == 1

    def test_created_stays_requested(self, aws, deployment):
        observe(deployment)
        assert deployment.status == Status.REQUESTED

    def test_success_moves_occupancy_in_the_same_transaction(self, aws, deployment):
        before = make_occupancy(make_deployment(deployment.environment))
        aws.succeed(deployment.codedeploy_id)
        observe(deployment)
        before.refresh_from_db()
        current = Occupancy.objects.current().get(environment=deployment.environment)
        assert (current.release, current.deployment) == (deployment.release, deployment)
        assert current.since == before.until

    def test_an_error_in_what_goes_with_it_moves_nothing(self, aws, deployment):
        def refuse(deployment):
            raise RuntimeError("no")

        aws.succeed(deployment.codedeploy_id)
        with pytest.raises(RuntimeError):
            observe(deployment, moved=refuse)
        assert deployment.status == Status.REQUESTED
        assert not Occupancy.objects.exists()

    def test_a_failure_leaves_occupancy_and_names_event_host_and_message(self, aws, deployment):
        before = make_occupancy(make_deployment(deployment.environment))
        bad = host(
            "staging-1",
            ("AfterInstall", "Succeeded"),
            ("ApplicationStart", "Failed"),
            status="Failed",
            message="Script at specified location: start failed with exit code 1",
            error_code="ScriptFailed",
            log_tail="[stderr]starting\n[stderr]ImportError: no module named shop\n",
        )
        aws.set(deployment.codedeploy_id, "Failed", bad, error_code="HEALTH_CONSTRAINTS", error_message="x")
        observe(deployment)
        failure = failure_of(deployment)
        assert deployment.status == Status.FAILED
        assert failure.by_release
        assert failure.sentence == (
            "ApplicationStart failed on staging-1: Script at specified location: start failed with exit "
            "code 1: [stderr]ImportError: no module named shop"
        )
        assert Occupancy.objects.current().get() == before

    def test_a_hook_of_the_previous_revision_is_not_this_releases_fault(self, aws, deployment):
        aws.set(deployment.codedeploy_id, "Failed", host("staging-1", ("ApplicationStop", "Failed")))
        observe(deployment)
        assert not failure_of(deployment).by_release

    def test_a_known_cause_is_said_with_its_way_out_and_may_clear_the_release(self, aws, deployment):
        tail = "[stderr]/srv/x: No space left on device."
        bad = host("staging-1", ("AfterInstall", "Failed"), message="it failed", log_tail=tail)
        aws.set(deployment.codedeploy_id, "Failed", bad)
        observe(deployment)
        failure = failure_of(deployment)
        assert failure.cause.code == "no-space"
        assert not failure.by_release
        assert failure.sentence == (
            "AfterInstall failed on staging-1: it failed: [stderr]/srv/x: No space left on device. "
            f"{failure.cause.sentence} {failure.cause.way_out}"
        )

    def test_a_cause_that_is_the_releases_own_blames_it(self, aws, deployment):
        text = "The deployment failed because a specified file already exists at this location: /srv/a"
        aws.set(deployment.codedeploy_id, "Failed", host("h", ("Install", "Failed"), message=text))
        observe(deployment)
        failure = failure_of(deployment)
        assert failure.by_release
        assert "file_exists_behavior: OVERWRITE" in failure.sentence

    def test_the_hosts_record_says_what_codedeploy_does_not(self, aws, deployment):
        aws.set(deployment.codedeploy_id, "Failed", host("h", ("AfterInstall", "Failed"), message="exit 1"))
        observe(deployment)
        error = "Migration 0002 waited for a lock."
        make_record(HookEvent.objects.get(), result="failed", error=error, cause="lock-not-granted")
        failure = failure_of(deployment)
        assert failure.cause.code == "lock-not-granted"
        assert f"exit 1: {error.rstrip('.')}." in failure.sentence
        assert not failure.by_release

    def test_its_flight_records_are_watched_for_from_the_start(self, aws, deployment):
        assert not FlightWatch.objects.exists()
        aws.set(deployment.codedeploy_id, "InProgress")
        observe(deployment)
        watch = FlightWatch.objects.open().get(deployment=deployment)
        aws.succeed(deployment.codedeploy_id)
        observe(deployment)
        assert FlightWatch.objects.get() == watch

    def test_a_success_that_left_a_host_behind_does_not_move_occupancy(self, aws, deployment):
        good = host("staging-1", ("ValidateService", "Succeeded"))
        bad = host("staging-2", ("ValidateService", "Failed"), status="Failed")
        aws.set(deployment.codedeploy_id, "Succeeded", good, bad)
        observe(deployment)
        assert deployment.status == Status.SUCCEEDED
        assert not Occupancy.objects.exists()

    def test_what_hooks_print_may_hold_anything(self, aws, deployment):
        tail = "NUL \0 here"
        aws.set(deployment.codedeploy_id, "Failed", host("h", ("BeforeInstall", "Failed"), log_tail=tail))
        observe(deployment)
        assert HookEvent.objects.get().log_tail == "NUL \ufffd here"

    def test_aws_being_away_is_shown_until_it_is_back(self, aws, deployment):
        aws.away = NO_ANSWER
        with pytest.raises(AwsError):
            observe(deployment)
        assert (deployment.status, deployment.error_message) == (Status.REQUESTED, str(NO_ANSWER))
        aws.away = None
        observe(deployment)
        assert deployment.error_message == ""

    def test_codedeploy_that_forgot_it_ends_it_after_a_while(self, aws, deployment):
        aws.deployments.clear()
        assert observe(deployment) == POLL
        long_ago(deployment)
        observe(deployment)
        assert deployment.status == Status.FAILED
        assert "does not know d-000000001 any more" in deployment.error_message

    def test_without_the_lease_nothing_is_written(self, aws, deployment):
        aws.succeed(deployment.codedeploy_id)
        lease = lease_of(deployment)
        Deployment.objects.filter(pk=deployment.pk).update(lease_until=timezone.now())
        with pytest.raises(LeaseLost):
            observe_deployment(deployment=deployment, lease=lease)
        deployment.refresh_from_db()
        assert deployment.status == Status.REQUESTED
        assert not Target.objects.exists()

    def test_what_it_did_is_recorded_once(self, aws, deployment):
        aws.set(deployment.codedeploy_id, "InProgress")
        observe(deployment)
        observe(deployment)
        aws.succeed(deployment.codedeploy_id)
        observe(deployment)
        observe(deployment)
        entries = Entry.objects.filter(subject=f"deployment:{deployment.pk}").order_by("sequence")
        assert [entry.action for entry in entries] == [
            "deployment.requested",
            "deployment.running",
            "deployment.succeeded",
        ]
        assert description_of(deployment).endswith(str(deployment.intent))
