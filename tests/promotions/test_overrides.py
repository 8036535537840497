"""Overrides: who may, for how long, who has to agree, and what is left of them."""

from datetime import timedelta
from unittest.mock import patch

import pytest
from django.db import IntegrityError, transaction
from django.test import TestCase
from django.utils import timezone

from apps.catalog.services import grant_role, revoke_role
from apps.errors import DomainError, Forbidden, Invalid, NotFound
from apps.gates.replay import replay_decision
from apps.ledger.models import Entry
from apps.promotions.explanation import explain_promotion
from apps.promotions.holds import veto_release
from apps.promotions.models import Override, Promotion, Standing
from apps.promotions.overrides import override_promotion, second_override, withdraw_override
from apps.promotions.services import cancel_promotion, evaluate_promotion, get_promotion, start_promotion
from apps.promotions.standing import judge_running
from tests.factories import make_occupancy, make_override, make_standing, make_user
from tests.promotions.cast import Cast

SECOND = {"rule": "override", "parameters": {"second_person": True, "maximum_minutes": 120}}


class OverrideTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.cast.policy(cls.cast.staging, "built_as_defined", "approved")
        cls.promotion = cls.cast.request()

    def give(self, promotion=None, **fields):
        defaults = {"user": self.cast.olga, "justification": "The site is down.", "minutes": 60}
        return override_promotion(promotion=promotion or self.promotion, **{**defaults, **fields})

    def later(self, **by):
        return patch.object(timezone, "now", return_value=timezone.now() + timedelta(**by))

    def test_it_opens_the_gate_and_the_verdict_says_so(self):
        override = self.give()
        assert self.promotion.decision.verdict == "overridden"
        built, approved, itself = self.promotion.decision.findings
        assert (built["verdict"], approved["verdict"]) == ("pass", "overridden")
        assert "It needs 1 more approval" in approved["sentence"]
        assert itself["evidence"]["overrides"][0]["override"] == override.pk
        assert start_promotion(promotion=self.promotion)
        started = Entry.objects.get(action="promotion.started")
        assert started.data["verdict"] == "overridden"

    def test_the_ledger_has_who_against_what_and_why(self):
        self.give(rules=["approved", "max_failures"])
        entry = Entry.objects.get(action="promotion.overridden")
        assert entry.actor == self.cast.olga
        assert entry.data["rules"] == ["approved", "max_failures"]
        assert entry.data["justification"] == "The site is down."
        assert Entry.objects.filter(action="promotion.judged").last().data["overridden"] == ["approved"]

    def test_only_who_holds_the_operator_role_may(self):
        root = make_user("root", is_superuser=True)
        for user, error in (
            (self.cast.ann, Forbidden),
            (self.cast.ben, Forbidden),
            (root, Forbidden),
            (self.cast.eve, NotFound),
        ):
            with pytest.raises(error):
                self.give(user=user)
        assert not Override.objects.exists()

    def test_what_makes_no_sense_is_refused(self):
        for fields, words in (
            ({"justification": " "}, "needs a justification"),
            (
                {"rules": ["phase_of_moon"]},
                "phase_of_moon cannot be overridden. What can is: built_as_defined",
            ),
            ({"rules": ["override"]}, "override cannot be overridden"),
            ({"minutes": 0}, "counts for 1 to 240 minutes, not 0"),
            ({"minutes": 241}, "counts for 1 to 240 minutes, not 241"),
        ):
            with pytest.raises(Invalid, match=words):
                self.give(**fields)
        self.cast.policy(self.cast.staging, "approved", SECOND)
        with pytest.raises(Invalid, match="1 to 120 minutes"):
            self.give(minutes=121)
        cancel_promotion(promotion=self.promotion, user=self.cast.ann)
        with pytest.raises(DomainError, match="no longer waits"):
            self.give(get_promotion(self.promotion.pk))
        assert not Override.objects.exists()

    def test_the_same_twice_is_one(self):
        override = self.give()
        assert self.give() == override
        assert self.give(rules=["approved"]) != override
        assert Entry.objects.filter(action="promotion.overridden").count() == 2

    def test_a_second_operator_agrees_where_the_policy_asks_for_one(self):
        self.cast.policy(self.cast.staging, "approved", SECOND)
        override = self.give()
        assert self.promotion.decision.verdict == "waiting_human"
        assert not start_promotion(promotion=self.promotion)
        for user, error, words in (
            (self.cast.olga, Forbidden, "olga, who gave it"),
            (self.cast.ben, Forbidden, "must be operator"),
            (self.cast.eve, NotFound, "eve can see"),
        ):
            with pytest.raises(error, match=words):
                second_override(override=override, user=user)
        second_override(override=override, user=self.cast.omar)
        assert override.promotion.decision.verdict == "overridden"
        entry = Entry.objects.get(action="promotion.override_seconded")
        assert (entry.actor, entry.data) == (self.cast.omar, {"override": override.pk})
        with pytest.raises(DomainError, match="seconded it before"):
            second_override(override=override, user=self.cast.omar)
        assert start_promotion(promotion=get_promotion(self.promotion.pk))

    def test_one_that_has_ended_cannot_be_seconded(self):
        override = self.give()
        with self.later(hours=2), pytest.raises(DomainError, match="has ended"):
            second_override(override=override, user=self.cast.omar)

    def test_when_it_has_ended_the_gate_is_judged_anew(self):
        self.give(minutes=30)
        with self.later(minutes=31):
            assert evaluate_promotion(promotion=self.promotion).verdict == "waiting_human"
            assert not start_promotion(promotion=self.promotion)

    def test_that_of_an_operator_who_has_left_counts_no_longer(self):
        self.give()
        revoke_role(user=self.cast.olga, service=self.cast.service, role="operator")
        decision = evaluate_promotion(promotion=self.promotion)
        assert decision.verdict == "waiting_human"
        assert "is no operator now" in decision.findings[-1]["sentence"]
        grant_role(user=self.cast.olga, service=self.cast.service, role="operator")
        assert evaluate_promotion(promotion=self.promotion).verdict == "overridden"
        self.cast.olga.is_active = False
        self.cast.olga.save()
        assert evaluate_promotion(promotion=self.promotion).verdict == "waiting_human"

    def test_nor_when_the_second_has_left(self):
        self.cast.policy(self.cast.staging, "approved", SECOND)
        second_override(override=self.give(), user=self.cast.omar)
        revoke_role(user=self.cast.omar, service=self.cast.service, role="operator")
        assert evaluate_promotion(promotion=self.promotion).verdict == "waiting_human"

    def test_any_operator_withdraws_it(self):
        override = self.give()
        with pytest.raises(Forbidden):
            withdraw_override(override=override, user=self.cast.ben)
        withdraw_override(override=override, user=self.cast.omar, comment="It is up again.")
        assert override.promotion.decision.verdict == "waiting_human"
        assert Entry.objects.get(action="promotion.override_withdrawn").data["comment"] == "It is up again."
        with pytest.raises(DomainError, match="withdrawn already"):
            withdraw_override(override=override, user=self.cast.omar)
        with pytest.raises(DomainError, match="has ended"):
            second_override(override=override, user=self.cast.omar)
        override.refresh_from_db()
        assert override.withdrawn_by == self.cast.omar

    def test_a_veto_stands_unless_it_is_named(self):
        veto_release(release=self.promotion.release, user=self.cast.ben, reason="No.")
        self.give()
        assert self.promotion.decision.verdict == "blocked"
        self.give(rules=["approved", "not_vetoed"])
        assert self.promotion.decision.verdict == "overridden"

    def test_what_runs_by_it_passes_until_it_is_withdrawn(self):
        override = self.give()
        start_promotion(promotion=self.promotion)
        make_occupancy(self.promotion.deployment)
        Promotion.objects.update(status="succeeded")
        with self.later(hours=5):
            judgement = judge_running(self.cast.staging)
        assert (judgement.verdict, judgement.still_passes) == ("overridden", True)
        make_standing(self.cast.staging, self.promotion.release, lease_until=timezone.now())
        decision = self.promotion.decision
        with self.captureOnCommitCallbacks(execute=True):
            withdraw_override(override=override, user=self.cast.omar)
        assert Standing.objects.get().lease_until is None
        assert not judge_running(self.cast.staging).still_passes
        assert get_promotion(self.promotion.pk).decision == decision

    def test_it_is_shown_for_ever_and_can_be_replayed(self):
        self.give()
        start_promotion(promotion=self.promotion)
        explanation = explain_promotion(get_promotion(self.promotion.pk))
        assert explanation.verdict == "overridden"
        assert [each.rule for each in explanation.met] == ["approved", "override", "built_as_defined"]
        assert replay_decision(pk=self.promotion.decision_id).same
        assert Override.objects.get().promotion == self.promotion

    def test_the_database_itself_refuses_one_person_twice_and_no_end(self):
        for fields in (
            {"by": self.cast.olga, "seconded_by": self.cast.olga, "seconded_at": timezone.now()},
            {"justification": ""},
            {"expires_at": timezone.now() - timedelta(hours=1)},
            {"seconded_by": self.cast.omar},
        ):
            with pytest.raises(IntegrityError), transaction.atomic():
                make_override(self.promotion, **fields)
