"""manage.py replay: a decision stands as long as facts, policy and verdict are what they were."""

import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import TestCase

from apps.gates.models import Decision, Policy
from apps.gates.replay import replay_decision
from apps.ledger.models import Entry
from apps.promotions.services import approve_promotion
from tests.factories import make_decision
from tests.promotions.cast import Cast


class ReplayTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.cast.policy(cls.cast.staging, "max_failures", "approved")
        cls.promotion = cls.cast.request()
        cls.decision = cls.promotion.decision

    def run_it(self, *more):
        out, code = io.StringIO(), 0
        try:
            call_command("replay", str(self.decision.pk), *more, stdout=out)
        except SystemExit as end:
            code = end.code
        return out.getvalue(), code

    def test_the_same_facts_give_the_same_verdict(self):
        out, code = self.run_it()
        assert code == 0
        assert "Same: it was waiting_human, and is waiting_human." in out
        assert "Not proven" not in out

    def test_what_happened_later_does_not_change_it(self):
        approve_promotion(promotion=self.promotion, user=self.cast.ben)
        self.cast.policy(self.cast.staging, "verified_upstream")
        assert self.run_it()[1] == 0

    def test_every_decision_of_a_promotion_can_be_replayed(self):
        approve_promotion(promotion=self.promotion, user=self.cast.ben)
        verdicts = [replay_decision(pk=each.pk) for each in Decision.objects.order_by("pk")]
        assert [each.verdict for each in verdicts] == ["waiting_human", "pass"]
        assert all(each.same and not each.unproven for each in verdicts)

    def test_facts_that_were_changed_are_told_apart_by_their_hash(self):
        self.decision.facts["reports"][0]["failed"] = 3
        self.decision.save()
        out, code = self.run_it()
        assert code == 1
        assert "The facts are not those that were judged" in out
        assert "- max_failures: pass: " in out
        assert "+ max_failures: blocked: 3 failures" in out
        assert "it was waiting_human, and is blocked" in out

    def test_a_fact_that_no_rule_asks_about_is_missed_too(self):
        self.decision.facts["build"]["log_url"] = "https://elsewhere.example/"
        self.decision.save()
        out, code = self.run_it()
        assert code == 1
        assert "The facts are not those that were judged" in out

    def test_a_verdict_that_was_changed_is_contradicted_by_ledger_and_facts(self):
        Decision.objects.update(verdict="pass")
        out, code = self.run_it()
        assert code == 1
        assert "The verdict is stored as pass; entry" in out
        assert "The verdict was pass and is waiting_human." in out

    def test_rules_that_were_changed_are_contradicted_by_the_ledger(self):
        with connection.cursor() as cursor:
            # As the table's owner can.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("ALTER TABLE gates_policy DISABLE TRIGGER gates_policy_immutable")
        Policy.objects.filter(pk=self.decision.policy_id).update(
            rules=[{"rule": "max_failures", "parameters": {"maximum": 9}}]
        )
        out, code = self.run_it()
        assert code == 1
        assert "The rules of staging v2 are not those that entry" in out
        assert "+ (no finding)" in out

    def test_a_decision_that_the_ledger_does_not_know_does_not_stand(self):
        self.decision = make_decision(
            self.cast.staging,
            self.promotion.release,
            "waiting_human",
            facts=self.decision.facts,
            findings=self.decision.findings,
            evaluated_at=self.decision.evaluated_at,
        )
        out, code = self.run_it()
        assert code == 1
        assert f"names no decision {self.decision.pk}" in out

    def test_other_words_with_the_same_verdict_are_no_difference(self):
        self.decision.findings[0]["sentence"] = "As an older version put it."
        self.decision.save()
        out, code = self.run_it()
        assert code == 0
        assert "in other words" in out

    def test_json_says_the_same(self):
        out, code = self.run_it("--json")
        told = json.loads(out)
        assert code == 0
        assert (told["same"], told["verdict_then"], told["differences"]) == (True, "waiting_human", [])

    def test_what_cannot_be_judged_again_ends_with_2(self):
        with pytest.raises(CommandError, match="There is no decision 0") as caught:
            call_command("replay", "0")
        assert caught.value.returncode == 2
        Decision.objects.update(facts={})
        with pytest.raises(CommandError, match="cannot be read: facts: service, ") as caught:
            self.run_it()
        assert caught.value.returncode == 2

    def test_the_ledger_holds_the_hash_of_the_facts(self):
        entry = Entry.objects.get(action="promotion.judged")
        assert entry.data["policy"] == self.decision.policy_id
        assert len(entry.data["facts_sha256"]) == 64
