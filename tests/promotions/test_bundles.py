"""Looks at bundles: only where a policy asks for them, and right before a deployment's intent is written."""

from datetime import timedelta

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from apps.aws import s3
from apps.deployments.models import Deployment
from apps.promotions import reconcile
from apps.promotions.bundles import begin_looks, refresh_look, wants_look, watched_looks, watched_releases
from apps.promotions.models import Promotion, Standing
from apps.promotions.reconcile import Reconciler
from apps.promotions.services import approve_promotion, start_promotion
from apps.promotions.standing import judge_running
from apps.releases.models import BundleLook
from tests.builds.fake import AWAY, install
from tests.clients import signed_in
from tests.factories import make_deployment, make_occupancy, make_standing, make_user
from tests.promotions.cast import Cast

pytestmark = pytest.mark.django_db(transaction=True)
Status = Promotion.Status


@pytest.fixture
def aws(monkeypatch):
    fake = install(monkeypatch)
    asked = fake.head

    def head(**where):
        assert not connection.in_atomic_block, "AWS is asked within a transaction"
        return asked(**where)

    monkeypatch.setattr(s3, "head", head)
    return fake


@pytest.fixture
def cast():
    cast = Cast()
    cast.policy(cast.staging, "built_as_defined", "bundle_intact")
    return cast


def release_in(aws, cast):
    """A release whose bundle is in S3."""
    body = b"the bundle"
    release = cast.release(size=len(body), etag="0" * 32)
    aws.put(release.key, body, bucket=release.bucket)
    aws.etags[release.key] = release.etag
    return release


def judge(promotion):
    """Let a reconciler judge it now; the promotion as it is then."""
    Promotion.objects.update(lease_until=None)
    assert Reconciler().judge_promotions()
    promotion.refresh_from_db()
    return promotion


def asked_ago(**ago):
    BundleLook.objects.update(asked_at=timezone.now() - timedelta(**ago))


def test_a_release_starts_once_its_bundle_has_been_looked_at(aws, cast):
    promotion = cast.request(release_in(aws, cast))
    assert promotion.decision.verdict == "waiting_evidence"
    assert judge(promotion).status == Status.PENDING
    assert Reconciler().look_at_one_bundle()
    assert judge(promotion).status == Status.DEPLOYING
    assert aws.asked == ["head"]
    assert promotion.decision.facts["bundle"]["problem"] == ""


def test_a_bundle_that_is_gone_never_starts(aws, cast):
    release = release_in(aws, cast)
    promotion = cast.request(release)
    refresh_look(release)
    aws.objects.clear()
    asked_ago(minutes=2)
    assert judge(promotion).status == Status.PENDING
    assert promotion.decision.verdict == "blocked"
    assert "is gone from s3://shop-bundles/" in promotion.decision.findings[1]["sentence"]
    assert not Deployment.objects.exists()


def test_an_old_look_lets_nothing_through(aws, cast):
    release = release_in(aws, cast)
    promotion = cast.request(release)
    refresh_look(release)
    asked_ago(minutes=2)
    assert not start_promotion(promotion=promotion)
    assert promotion.decision.verdict == "pass"
    refresh_look(release)
    assert start_promotion(promotion=promotion)


def test_s3_away_is_waited_for_and_then_inconclusive(aws, cast):
    release = release_in(aws, cast)
    promotion = cast.request(release)
    aws.errors["head"] = AWAY
    refresh_look(release)
    assert judge(promotion).decision.verdict == "waiting_evidence"
    BundleLook.objects.update(failing_since=timezone.now() - timedelta(hours=1))
    assert judge(promotion).decision.verdict == "inconclusive"
    assert aws.asked == ["head"], "the next look is the other step's"
    aws.errors.clear()
    assert Reconciler().look_at_one_bundle()
    assert judge(promotion).status == Status.DEPLOYING


def test_while_somebody_has_to_approve_it_is_looked_at_every_few_minutes(aws, cast):
    cast.policy(cast.staging, "approved", "bundle_intact")
    promotion = cast.request(release_in(aws, cast))
    worker = Reconciler()
    assert worker.look_at_one_bundle()
    assert not worker.look_at_one_bundle()
    for _ in range(3):
        judge(promotion)
    assert aws.asked == ["head"]
    rest = BundleLook.objects.get().lease_until - timezone.now()
    assert timedelta(minutes=9) < rest <= reconcile.LOOK_EVERY
    asked_ago(minutes=9)
    approve_promotion(promotion=promotion, user=cast.ben)
    assert judge(promotion).status == Status.DEPLOYING
    assert aws.asked == ["head", "head"]


def test_after_no_answer_the_next_look_is_soon(aws, cast):
    cast.request(release_in(aws, cast))
    aws.errors["head"] = AWAY
    assert Reconciler().look_at_one_bundle()
    assert BundleLook.objects.get().lease_until - timezone.now() <= reconcile.LOOK_AGAIN


def test_looks_that_say_the_same_make_no_new_decision(aws, cast):
    cast.policy(cast.staging, "approved", "bundle_intact")
    release = release_in(aws, cast)
    promotion = cast.request(release)
    refresh_look(release)
    first = judge(promotion).decision
    refresh_look(release)
    assert judge(promotion).decision == first


def test_another_answer_wakes_what_waits_and_what_runs(aws, cast):
    release = release_in(aws, cast)
    cast.request(release)
    make_standing(cast.staging, release)
    refresh_look(release)
    for model in (Promotion, Standing):
        model.objects.update(lease_until=timezone.now() + timedelta(hours=1))
    refresh_look(release)
    assert not Promotion.objects.filter(lease_until=None).exists()
    aws.objects.clear()
    refresh_look(release)
    assert Promotion.objects.filter(lease_until=None).exists()
    assert Standing.objects.filter(lease_until=None).exists()


def test_only_what_waits_or_runs_where_a_policy_asks_is_watched(aws, cast):
    waits, runs, elsewhere, gone = (cast.release() for _ in range(4))
    cast.request(waits)
    make_occupancy(make_deployment(cast.staging, runs))
    cast.policy(cast.production, "built_as_defined")
    make_occupancy(make_deployment(cast.production, elsewhere))
    refresh_look(gone)
    assert set(watched_releases()) == {waits, runs}
    begin_looks()
    begin_looks()
    assert {look.release for look in watched_looks()} == {waits, runs}
    cast.policy(cast.staging, "built_as_defined")
    assert not watched_looks().exists()


def test_where_no_policy_asks_nobody_looks(aws, cast):
    cast.policy(cast.staging, "built_as_defined")
    promotion = cast.request()
    assert not Reconciler().look_at_one_bundle()
    assert judge(promotion).status == Status.DEPLOYING
    assert aws.asked == []
    assert not wants_look(promotion)


def test_the_page_of_a_release_says_what_the_last_look_found(aws, cast):
    release = release_in(aws, cast)
    client = signed_in(make_user("root", is_superuser=True, is_staff=True))
    page = reverse("admin:releases_release_change", args=[release.pk])
    assert b"nobody has looked since it was registered" in client.get(page).content
    refresh_look(release)
    assert b"as it was registered, at 2" in client.get(page).content
    aws.errors["head"] = AWAY
    refresh_look(release)
    assert b"S3 gave no answer at 2" in client.get(page).content
    aws.errors.clear()
    aws.objects.clear()
    refresh_look(release)
    assert b"is gone from s3://shop-bundles/" in client.get(page).content


def test_what_runs_still_passes_while_s3_is_away(aws, cast):
    release = release_in(aws, cast)
    refresh_look(release)
    promotion = cast.request(release)
    deployment = make_deployment(cast.staging, release)
    make_occupancy(deployment)
    Promotion.objects.filter(pk=promotion.pk).update(status=Status.SUCCEEDED, deployment=deployment)
    aws.errors["head"] = AWAY
    refresh_look(release)
    BundleLook.objects.update(failing_since=timezone.now() - timedelta(days=1))
    assert judge_running(cast.staging).still_passes
    aws.errors.clear()
    aws.objects.clear()
    refresh_look(release)
    aws.errors["head"] = AWAY
    refresh_look(release)
    (finding,) = judge_running(cast.staging).unmet
    assert "is gone from s3://shop-bundles/" in finding.sentence
