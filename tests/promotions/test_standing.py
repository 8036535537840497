"""Would what runs still be let in? Stored by the reconciler, shown by the API and the overview."""

from datetime import timedelta
from unittest.mock import patch

from django.test import TestCase
from django.urls import reverse
from django.utils import timezone

from apps.builds.models import Build
from apps.builds.signals import evidence_added
from apps.catalog.services import revoke_role
from apps.ledger.models import Entry
from apps.promotions.models import Promotion, Standing
from apps.promotions.reconcile import Reconciler
from apps.promotions.services import approve_promotion, withdraw_approval
from apps.promotions.standing import judge_running, look_for_standings, wake_waiting_for
from tests.clients import ApiClient, signed_in
from tests.factories import make_deployment, make_occupancy, make_report, make_standing, make_user
from tests.promotions.cast import Cast


class StandingTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.cast.policy(cls.cast.staging, "max_failures", "approved")
        cls.release = cls.cast.release()
        cls.promotion = cls.cast.request(cls.release)
        approve_promotion(promotion=cls.promotion, user=cls.cast.ben)
        cls.deployment = make_deployment(cls.cast.staging, cls.release)
        cls.occupancy = make_occupancy(cls.deployment)
        Promotion.objects.update(status="succeeded", deployment=cls.deployment)

    def setUp(self):
        self.worker = Reconciler()

    def judged(self):
        """What is stored once the reconciler has looked again."""
        self.worker.look_at = 0.0
        Standing.objects.update(lease_until=None)
        assert self.worker.judge_one_running_release()
        return Standing.objects.get(environment=self.cast.staging)

    def turns(self):
        entries = Entry.objects.filter(subject=f"release:{self.release.pk}").order_by("sequence")
        return [entry.action for entry in entries]

    def test_what_was_let_through_still_passes(self):
        standing = self.judged()
        assert (standing.release, standing.verdict, standing.still_passes) == (self.release, "pass", True)
        assert self.turns() == []

    def test_new_evidence_turns_it_and_the_ledger_tells_once(self):
        self.judged()
        report = make_report(self.release.build, name="e2e", failed=2)
        standing = self.judged()
        assert (standing.verdict, standing.still_passes) == ("blocked", False)
        assert [each["rule"] for each in standing.unmet] == ["max_failures"]
        since = standing.since
        assert self.judged().since == since
        report.delete()
        assert self.judged().still_passes
        assert self.turns() == ["release.no_longer_passes", "release.passes_again"]

    def test_a_changed_policy_turns_it(self):
        self.cast.policy(self.cast.staging, {"rule": "required_reports", "parameters": {"groups": ["e2e"]}})
        assert [each["rule"] for each in self.judged().unmet] == ["required_reports"]

    def test_an_approval_that_counts_no_longer_turns_it(self):
        revoke_role(user=self.cast.ben, service=self.cast.service, role="approver")
        standing = self.judged()
        assert standing.verdict == "waiting_human"
        assert "the word of ben counts no longer" in standing.unmet[0]["sentence"]

    def test_an_approval_that_was_withdrawn_wakes_and_turns_it(self):
        self.judged()
        with self.captureOnCommitCallbacks(execute=True):
            withdraw_approval(promotion=self.promotion, user=self.cast.ben)
        assert not Standing.objects.filter(lease_until__isnull=False).exists()
        standing = self.judged()
        assert (standing.verdict, standing.still_passes) == ("waiting_human", False)

    def test_evidence_that_only_grew_old_does_not(self):
        limit = (timezone.now() - self.release.build.finished_at) // timedelta(hours=1) + 1
        self.cast.policy(self.cast.staging, {"rule": "evidence_age", "parameters": {"maximum_hours": limit}})
        sixty_days_on = timezone.now() + timedelta(days=60)
        with patch.object(timezone, "now", return_value=sixty_days_on):
            assert judge_running(self.cast.staging).still_passes

    def test_what_came_by_no_gate_is_judged_by_todays_facts(self):
        Promotion.objects.all().update(deployment=None, status="cancelled")
        judgement = judge_running(self.cast.staging)
        assert judgement.verdict == "inconclusive"
        assert "Nobody has asked for this promotion" in judgement.unmet[0].sentence

    def test_where_nothing_runs_any_more_nothing_stands(self):
        self.judged()
        self.occupancy.until = timezone.now()
        self.occupancy.save()
        standing = self.judged()
        assert (standing.release, standing.still_passes, standing.unmet) == (None, None, [])

    def test_another_policy_or_release_and_new_evidence_wake_it(self):
        def resting():
            return Standing.objects.filter(lease_until__isnull=False).exists()

        self.judged()
        look_for_standings()
        assert resting()
        self.cast.policy(self.cast.staging, "approved")
        look_for_standings()
        assert not resting()
        self.judged()
        wake_waiting_for(self.cast.release().build)
        assert resting()
        # As it is told from below, where a report was sent.
        evidence_added.send(sender=Build, build=self.release.build)
        assert not resting()
        self.judged()
        self.occupancy.until = timezone.now()
        self.occupancy.save()
        make_occupancy(make_deployment(self.cast.staging))
        look_for_standings()
        assert not resting()

    def test_the_work_waits_its_turn(self):
        assert self.worker.judge_one_running_release()
        assert not self.worker.judge_one_running_release()

    def test_environments_say_it_at_the_api(self):
        client = ApiClient(self.cast.vic, "read")
        path = "/api/v1/environments/?service=shop"
        assert [row["standing"] for row in client.get(path).json()["results"]] == [None, None]
        make_standing(self.cast.production, self.release)
        make_standing(self.cast.staging, self.release, "2 tests fail by now.")
        with self.assertNumQueries(2):  # token with its user, environments with their upstreams
            rows = client.get(path).json()["results"]
        standings = {row["slug"]: row["standing"] for row in rows}
        assert standings["staging"]["version"] == self.release.version
        assert standings["staging"]["unmet"][0]["sentence"] == "2 tests fail by now."
        assert standings["production"]["still_passes"] is True
        (row,) = client.get(f"{path}&still_passes=false").json()["results"]
        assert row["slug"] == "staging"

    def test_the_overview_lists_where_it_does_not_pass(self):
        root = signed_in(make_user("root", is_superuser=True, is_staff=True))
        make_standing(self.cast.production, self.release)
        self.assertNotContains(root.get(reverse("admin:index")), "would no longer pass")
        make_standing(self.cast.staging, self.release, "2 tests fail by now.")
        page = root.get(reverse("admin:index"))
        self.assertContains(page, "Runs, and would no longer pass")
        self.assertContains(page, "2 tests fail by now.")
