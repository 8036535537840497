"""The reconciler's steps, in this process."""

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from structlog.testing import capture_logs

from apps.aws.errors import AwsError
from apps.builds.models import Build
from apps.deployments.models import Deployment, GroupWatch, Occupancy
from apps.gates.models import Decision
from apps.promotions import reconcile, services
from apps.promotions.models import Promotion
from apps.promotions.reconcile import Reconciler, reconcile_once, unregistered_builds
from apps.promotions.services import approve_promotion
from tests.deployments.fake import BUSY, NO_ANSWER, FakeCodeDeploy, host
from tests.factories import make_build, make_environment, make_policy, make_promotion, make_release
from tests.promotions.cast import Cast

Status = Promotion.Status
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def aws(monkeypatch):
    return FakeCodeDeploy().install(monkeypatch)


@pytest.fixture
def cast():
    return Cast()


def drain(reconciler=None):
    """Work until nothing is due."""
    rounds = 0
    while reconcile_once(reconciler):
        rounds += 1
        assert rounds < 50
    return rounds


def hurry():
    """Let every resting row be due at once."""
    for model in (Build, Deployment, Promotion):
        model.objects.update(lease_until=None)


class TestOneWorker:
    def test_it_brings_a_release_from_the_gate_to_its_place(self, aws, cast):
        promotion = cast.request()
        drain()
        promotion.refresh_from_db()
        assert promotion.status == Status.DEPLOYING
        (key,) = aws.deployments
        aws.set(key, "InProgress", host("staging-1", ("ValidateService", "InProgress"), status="InProgress"))
        hurry()
        drain()
        promotion.refresh_from_db()
        assert promotion.status == Status.VERIFYING
        aws.succeed(key)
        hurry()
        drain()
        promotion.refresh_from_db()
        assert promotion.status == Status.SUCCEEDED
        assert Occupancy.objects.current().get().release == promotion.release

    def test_environments_that_could_start_at_once_do_so_in_deploy_order(self, aws, cast):
        # The one that was asked for last is deployed first.
        release = cast.release()
        later = make_environment(cast.service, "eu", position=2)
        sooner = make_environment(cast.service, "canary", position=1)
        for environment in (later, sooner):
            make_policy(environment, [{"rule": "built_as_defined"}])
            make_promotion(environment, release)
        drain()
        intents = Deployment.objects.filter(environment__in=(later, sooner)).order_by("pk")
        assert [deployment.environment for deployment in intents] == [sooner, later]
        asked = Deployment.objects.filter(environment__in=(later, sooner)).order_by("asked_at")
        assert [deployment.environment for deployment in asked] == [sooner, later]

    def test_nothing_to_do_is_no_work(self, aws, cast):
        drain()  # the cast's own entries in the ledger
        assert not reconcile_once()

    def test_what_waits_is_not_judged_over_and_over(self, aws, cast):
        drain()  # the first look at each environment's group
        cast.policy(cast.staging, "approved")
        drain()
        promotion = cast.request()
        assert drain() == 1
        assert drain() == 0
        assert Decision.objects.count() == 1
        approve_promotion(promotion=promotion, user=cast.ben)
        drain()
        promotion.refresh_from_db()
        assert promotion.status == Status.DEPLOYING

    def test_a_verdict_follows_the_evidence_without_anybody_asking(self, aws, cast):
        promotion = cast.request()
        Build.objects.update(deviations=["image is another"])
        drain()
        promotion.refresh_from_db()
        assert promotion.decision.verdict == "blocked"

    def test_the_next_one_starts_when_the_place_is_free(self, aws, cast):
        cast.request()
        drain()
        second = cast.request()
        drain()
        second.refresh_from_db()
        assert second.status == Status.PENDING
        aws.succeed("d-000000001")
        Deployment.objects.update(lease_until=None)
        drain()
        second.refresh_from_db()
        assert second.status == Status.DEPLOYING

    def test_a_failed_deployment_leaves_what_runs(self, aws, cast):
        first = cast.request()
        drain()
        aws.succeed("d-000000001")
        hurry()
        drain()
        second = cast.request()
        drain()
        broken = host("staging-1", ("ApplicationStart", "Failed"), status="Failed", message="exit code 1")
        aws.set("d-000000002", "Failed", broken)
        hurry()
        drain()
        second.refresh_from_db()
        assert second.status == Status.FAILED
        assert second.reason == "ApplicationStart failed on staging-1: exit code 1"
        assert Occupancy.objects.current().get().release == first.release

    def test_a_definite_refusal_is_an_error_and_not_the_releases_fault(self, aws, cast):
        aws.refusals = [AwsError("no such revision", retryable=False, code="RevisionDoesNotExistException")]
        promotion = cast.request()
        drain()
        promotion.refresh_from_db()
        assert promotion.status == Status.ERRORED
        assert promotion.reason == "no such revision (RevisionDoesNotExistException)."

    def test_a_busy_group_is_waited_for(self, aws, cast):
        aws.refusals = [BUSY, BUSY]
        promotion = cast.request()
        for _ in range(3):
            drain()
            hurry()
        promotion.refresh_from_db()
        assert promotion.status == Status.DEPLOYING
        assert promotion.deployment.status == Deployment.Status.REQUESTED

    def test_an_error_in_one_row_does_not_stop_the_others(self, aws, cast, monkeypatch):
        bad = cast.request()
        good = cast.request(environment=cast.production)
        cast.policy(cast.production, "built_as_defined")
        start = reconcile.start_promotion

        def sometimes(*, promotion):
            if promotion.pk == bad.pk:
                raise KeyError("a bug")
            return start(promotion=promotion)

        monkeypatch.setattr(reconcile, "start_promotion", sometimes)
        drain()
        good.refresh_from_db()
        bad.refresh_from_db()
        assert good.status == Status.DEPLOYING
        assert bad.status == Status.PENDING
        assert bad.lease_owner == ""

    def test_a_fault_while_several_are_judged_does_not_stop_the_others(self, aws, cast, monkeypatch):
        bad = cast.request()
        good = cast.request(environment=cast.production)
        cast.policy(cast.production, "built_as_defined")
        gather_all = services.gather_all

        def sometimes(subjects):
            if bad.pk in [each.promotion.id for each in subjects]:
                raise KeyError("a bug")
            return gather_all(subjects)

        monkeypatch.setattr(services, "gather_all", sometimes)
        drain()
        good.refresh_from_db()
        bad.refresh_from_db()
        assert good.status == Status.DEPLOYING
        assert bad.status == Status.PENDING
        assert bad.lease_owner == ""

    def test_a_changed_policy_judges_all_that_wait_anew_at_once(self, aws, cast):
        waiting = [make_promotion(cast.production, make_release(cast.service)) for _ in range(5)]
        drain()
        cast.policy(cast.production, "approved")
        hurry()
        reconcile_once()
        for promotion in waiting:
            promotion.refresh_from_db()
            assert promotion.decision.verdict == "waiting_human"
            assert promotion.lease_until > timezone.now()
            assert promotion.lease_owner == ""

    def test_a_row_that_fails_rests_longer_each_time(self, aws, cast):
        cast.request()
        reconciler = Reconciler()
        drain(reconciler)
        aws.away = NO_ANSWER
        rests = []
        for _ in range(7):
            hurry()
            for model in (Promotion, GroupWatch):
                model.objects.update(lease_until=timezone.now() + timedelta(hours=1))
            before = timezone.now()
            with capture_logs() as logs:
                drain(reconciler)
            failed = [each for each in logs if each.get("row", "").startswith("deployments.deployment:")]
            told = [each["next_try_in_seconds"] for each in failed]
            # What it takes to come to the row is in the lease, too; the row rests no shorter than was said.
            assert Deployment.objects.get().lease_until >= before + timedelta(seconds=told[-1])
            rests += told
        assert rests == [2, 4, 8, 16, 32, 60, 60]

    def test_postgresql_going_away_is_not_taken_for_a_rows_fault(self, aws, cast, monkeypatch):
        cast.request()

        def away(*, promotion):
            connection.close()
            monkeypatch.setattr(connection, "is_usable", lambda: False)
            raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(reconcile, "start_promotion", away)
        with pytest.raises(OperationalError):
            reconcile_once()


class TestUnregisteredBuilds:
    def build(self, sha256="a" * 64, **fields):
        exports = {"LOCKKEEPER_BUNDLE_SHA256": sha256} if sha256 else {}
        return make_build(self.service, exports=exports, **fields)

    @pytest.fixture(autouse=True)
    def cast(self):
        self.service = Cast().service

    def test_a_read_build_with_a_bundle_is_one(self):
        build = self.build()
        self.build(sha256=None)
        self.build(collected_at=None)
        self.build(problem="the bundle is gone")
        assert list(unregistered_builds()) == [build]

    def test_a_registered_one_is_not(self):
        build = self.build()
        make_release(self.service, build=build, digest="a" * 64)
        assert not unregistered_builds().exists()

    def test_only_a_newer_build_of_the_same_bundle_is_one(self):
        older = self.build()
        make_release(self.service, build=self.build(), digest="a" * 64)
        newer = self.build()
        assert older.pk < newer.pk
        assert list(unregistered_builds()) == [newer]


@pytest.mark.integration
class TestSideBySide:
    def test_several_workers_deploy_everything_once(self, aws):
        casts = [Cast() for _ in range(1)]
        service = casts[0].service
        promotions = []
        for number in range(8):
            environment = service.environments.create(
                slug=f"env-{number}", application="shop", deployment_group=f"env-{number}"
            )
            casts[0].policy(environment, "built_as_defined")
            promotions.append(make_promotion(environment, casts[0].release()))
        # Every third answer is lost on its way.
        aws.lost = [None, None, NO_ANSWER] * 3
        stop = threading.Event()

        def work():
            reconciler = Reconciler(stop=stop, idle=0.01)
            try:
                reconciler.run()
            finally:
                connection.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            deadline = timezone.now() + timedelta(seconds=40)
            while Promotion.objects.exclude(status=Status.SUCCEEDED).exists():
                assert timezone.now() < deadline, list(
                    Promotion.objects.values_list("pk", "status", "reason")
                )
                for key, info in list(aws.deployments.items()):
                    if info.status == "Created":
                        aws.succeed(key)
                stop.wait(0.1)
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        descriptions = [info.description for info in aws.deployments.values()]
        assert len(descriptions) == len(set(descriptions)) == len(promotions)
        assert aws.asked == len(promotions)
        assert Occupancy.objects.count() == len(promotions)
