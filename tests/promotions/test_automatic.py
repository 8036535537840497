"""Environments that ask by themselves: for what, once, and when not."""

from datetime import timedelta
from functools import partial

import pytest
from django.test import TestCase
from django.utils import timezone

from apps.access.models import User
from apps.deployments.models import Deployment
from apps.errors import DomainError
from apps.ledger.models import Entry
from apps.promotions.automatic import USERNAME, ask_by_itself, due
from apps.promotions.models import Promotion
from apps.promotions.reconcile import Reconciler
from apps.promotions.rollbacks import request_rollback
from tests.deployments.fake import FakeCodeDeploy
from tests.factories import make_deployment, make_environment, make_occupancy, make_promotion, make_user
from tests.promotions.cast import Cast
from tests.races import all_at_once


def arrive(release, environment, *, ago=timedelta(hours=1)):
    """It runs there, in place of what did."""
    at = timezone.now() - ago
    environment.occupancies.filter(until=None).update(until=at)
    return make_occupancy(make_deployment(environment, release), since=at)


def automatic(environment, **fields):
    environment.auto_promote = True
    for name, value in fields.items():
        setattr(environment, name, value)
    environment.save()
    return environment


def names():
    return [(environment.slug, release.version) for environment, release in due()]


class DueTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.one, cls.two, cls.three = (cls.cast.release() for _ in range(3))

    def test_what_runs_upstream_is_due(self):
        automatic(self.cast.production)
        assert names() == []
        arrive(self.one, self.cast.staging)
        assert names() == [("production", self.one.version)]

    def test_without_upstreams_it_is_the_newest_release(self):
        automatic(self.cast.staging)
        assert names() == [("staging", self.three.version)]

    def test_only_where_it_was_switched_on(self):
        arrive(self.one, self.cast.staging)
        assert names() == []

    def test_all_upstreams_have_to_have_had_it(self):
        canary = make_environment(self.cast.service, "canary")
        automatic(self.cast.production).upstreams.add(canary)
        arrive(self.one, self.cast.staging)
        assert names() == []
        arrive(self.one, canary)
        arrive(self.two, canary)
        # It left the canary, but proved itself there.
        assert names() == [("production", self.one.version)]

    def test_of_any_upstream_it_is_the_newest(self):
        canary = make_environment(self.cast.service, "canary")
        automatic(self.cast.production, upstream_mode="any").upstreams.add(canary)
        arrive(self.two, canary)
        arrive(self.one, self.cast.staging)
        assert names() == [("production", self.two.version)]

    def test_what_is_older_than_what_runs_or_waits_is_not_due(self):
        automatic(self.cast.production)
        arrive(self.two, self.cast.staging)
        waiting = make_promotion(self.cast.production, self.three)
        assert names() == []
        Promotion.objects.filter(pk=waiting.pk).delete()
        arrive(self.three, self.cast.production)
        assert names() == []

    def test_what_was_asked_for_once_is_not_asked_for_again_however_it_ended(self):
        automatic(self.cast.production)
        arrive(self.one, self.cast.staging)
        for status in ("rejected", "cancelled", "errored", "superseded"):
            promotion = make_promotion(self.cast.production, self.one, status=status)
            assert names() == [], status
            promotion.delete()

    def test_after_a_rollback_only_a_newer_release_is_due(self):
        automatic(self.cast.production)
        arrive(self.one, self.cast.production, ago=timedelta(hours=3))
        arrive(self.two, self.cast.production, ago=timedelta(hours=2))
        arrive(self.two, self.cast.staging)
        request_rollback(environment=self.cast.production, requested_by=self.cast.olga)
        assert names() == []
        arrive(self.one, self.cast.production)
        assert names() == []
        arrive(self.three, self.cast.staging)
        assert names() == [("production", self.three.version)]

    def test_it_asks_as_many_queries_for_ten_as_for_one(self):
        automatic(self.cast.production)
        arrive(self.one, self.cast.staging)
        # environments, their upstreams, what runs and was there, newest releases, asked, told, been, releases
        with self.assertNumQueries(9):
            due()
        for number in range(10):
            environment = make_environment(
                self.cast.service, f"p-{number}", upstreams=(self.cast.staging,), auto_promote=True
            )
            make_promotion(environment, self.one)
        with self.assertNumQueries(9):
            due()


class AskTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        automatic(cls.cast.production)
        cls.cast.policy(cls.cast.production, "approved")
        cls.release = cls.cast.release()
        arrive(cls.release, cls.cast.staging)

    def ask(self):
        return ask_by_itself(environment=self.cast.production, release=self.release)

    def test_it_asks_in_a_name_of_its_own_and_the_gate_decides(self):
        promotion = self.ask()
        assert (promotion.status, promotion.decision.verdict) == ("pending", "waiting_human")
        assert promotion.requested_by.username == USERNAME
        assert promotion.requested_by.kind == User.Kind.SERVICE
        assert not promotion.requested_by.has_usable_password()
        entry = Entry.objects.get(action="promotion.requested")
        assert entry.actor == promotion.requested_by
        assert entry.data["automatic"] is True

    def test_it_supersedes_what_is_older_as_anybodys_wish_does(self):
        older = make_promotion(self.cast.production, self.cast.release())
        self.release = self.cast.release()
        self.ask()
        older.refresh_from_db()
        assert older.status == "superseded"

    def test_once_only(self):
        assert self.ask() is not None
        assert self.ask() is None
        assert Promotion.objects.count() == 1

    def test_a_person_of_that_name_is_not_used(self):
        make_user(USERNAME)
        with pytest.raises(DomainError, match="exists already as a person"):
            self.ask()


@pytest.mark.django_db(transaction=True)
class TestReconcilers:
    @pytest.fixture(autouse=True)
    def aws(self, monkeypatch):
        self.codedeploy = FakeCodeDeploy().install(monkeypatch)

    def test_three_of_them_ask_once(self):
        cast = Cast()
        automatic(cast.production)
        cast.policy(cast.production, "approved")
        release = cast.release()
        arrive(release, cast.staging)
        ask = partial(ask_by_itself, environment=cast.production, release=release)
        made = all_at_once(ask, ask, ask)
        assert sum(promotion is not None for promotion in made) == 1
        assert Promotion.objects.get().release == release

    def test_what_has_arrived_upstream_goes_on_by_itself(self):
        cast = Cast()
        automatic(cast.production)
        cast.policy(cast.production, "verified_upstream")
        release = cast.release()
        cast.request(release)
        reconciler = Reconciler()
        self.drain(reconciler)
        self.codedeploy.succeed("d-000000001")
        self.drain(reconciler)
        self.codedeploy.succeed("d-000000002")
        self.drain(reconciler)
        there = cast.production.occupancies.get(until=None)
        assert there.release == release
        assert there.deployment.promotion.requested_by.username == USERNAME

    def drain(self, reconciler):
        reconciler.ask_at = 0.0
        for model in (Promotion, Deployment):
            model.objects.update(lease_until=None)
        rounds = 0
        while reconciler.tick():
            reconciler.ask_at = 0.0
            rounds += 1
            assert rounds < 50
