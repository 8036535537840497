"""Going back: to what, by whose word, by which rules, and what is refused before anything moves."""

import io
import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.test import TestCase
from django.urls import reverse
from django.utils import timezone

from apps.deployments.models import Deployment
from apps.errors import DomainError, Forbidden, Invalid, NotFound
from apps.gates.models import Decision
from apps.gates.replay import replay_decision
from apps.gates.services import save_policy
from apps.ledger.models import Entry
from apps.promotions import describe
from apps.promotions.holds import veto_release
from apps.promotions.models import Promotion
from apps.promotions.rollbacks import request_rollback
from apps.promotions.services import cancel_promotion, request_promotion, start_promotion
from apps.releases.migration_source import Step
from tests.clients import ApiClient, signed_in
from tests.factories import make_deployment, make_environment, make_member, make_occupancy, make_user
from tests.promotions.cast import Cast

Status = Promotion.Status
FIRST = Step("shop", "0001_initial", "reversible")
NEW_TABLE = Step("shop", "0002_table", "reversible")
DROP = Step("shop", "0003_drop", "one_way", "RemoveField order.total")
CONTRACT = Step("shop", "0003_drop", "one_way", "RemoveField order.total", contract=True)
UNKNOWN = Step("shop", "0003_own", "unknown", "Custom is no operation that is known here")


class RollbackCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        # Whatever brings a release there takes two people and a week; a rollback must not.
        cls.cast.policy(cls.cast.production, {"rule": "approved", "parameters": {"count": 2}})
        cls.olga = cls.cast.olga
        cls.olga.is_staff = True
        cls.olga.save()
        cls.clock = timezone.now() - timedelta(days=1)
        cls.one = cls.release(FIRST)
        cls.two = cls.release(FIRST, NEW_TABLE)
        cls.arrive(cls.one)
        cls.arrive(cls.two)

    @classmethod
    def release(cls, *steps):
        return cls.cast.release(steps=[step.to_json() for step in steps])

    @classmethod
    def arrive(cls, release, environment=None):
        """It is deployed and stays until the next one comes."""
        environment = environment or cls.cast.production
        cls.clock += timedelta(minutes=10)
        environment.occupancies.filter(until=None).update(until=cls.clock)
        return make_occupancy(make_deployment(environment, release), since=cls.clock)

    def roll_back(self, **fields):
        return request_rollback(**{"environment": self.cast.production, "requested_by": self.olga, **fields})


class TargetTests(RollbackCase):
    def test_it_is_the_release_before(self):
        promotion = self.roll_back(comment="checkout fails")
        assert (promotion.release, promotion.rollback) == (self.one, True)
        assert promotion.comment == "checkout fails"

    def test_a_second_one_goes_further_back_and_not_forth_again(self):
        self.arrive(self.release(FIRST, NEW_TABLE))
        self.arrive(self.two)
        assert self.roll_back().release == self.one

    def test_it_can_be_named(self):
        self.arrive(self.release(FIRST, NEW_TABLE))
        assert self.roll_back(release=self.one).release == self.one

    def test_a_vetoed_release_is_passed_over(self):
        three = self.release(FIRST, NEW_TABLE)
        self.arrive(three)
        veto_release(release=self.two, user=self.olga, reason="it loses orders")
        assert self.roll_back().release == self.one

    def test_where_nothing_older_has_run_there_is_nothing(self):
        with pytest.raises(DomainError, match="Nothing has run in staging yet"):
            self.roll_back(environment=self.cast.staging)
        self.arrive(self.two, self.cast.staging)
        with pytest.raises(DomainError, match=r"No release older than .* has run in staging"):
            self.roll_back(environment=self.cast.staging)

    def test_what_runs_is_refused(self):
        with pytest.raises(DomainError, match="runs in production already"):
            self.roll_back(release=self.two)

    def test_what_is_newer_or_was_never_there_is_a_promotion(self):
        never = self.release(FIRST)
        newest = self.release(FIRST, NEW_TABLE)
        with pytest.raises(Invalid, match=f"manage.py promote {re.escape(newest.version)} production"):
            self.roll_back(release=newest)
        self.arrive(newest)
        with pytest.raises(Invalid, match="has never run in production"):
            self.roll_back(release=never)

    def test_a_release_of_another_service_is_refused(self):
        with pytest.raises(Invalid, match="is not of shop"):
            self.roll_back(release=Cast.release(_Other()))

    def test_where_something_unknown_took_its_place_it_is_what_ran_last(self):
        self.cast.production.occupancies.filter(until=None).update(until=timezone.now())
        assert self.roll_back().release == self.two


class _Other:
    def __init__(self):
        self.service = make_environment().service


class RoleTests(RollbackCase):
    def test_only_operators_may(self):
        for user in (self.cast.ann, self.cast.ben, self.cast.vic):
            with self.subTest(user.username), pytest.raises(Forbidden, match="must be operator of shop"):
                self.roll_back(requested_by=user)
        with pytest.raises(NotFound):
            self.roll_back(requested_by=self.cast.eve)
        assert not Promotion.objects.exists()


class PolicyTests(RollbackCase):
    def test_it_is_judged_by_the_rules_for_rollbacks(self):
        promotion = self.roll_back()
        assert promotion.decision.verdict == "pass"
        assert [each["rule"] for each in promotion.decision.findings] == [
            "built_as_defined",
            "way_back",
            "not_pinned",
            "not_vetoed",
        ]
        assert promotion.decision.policy.version == 2
        assert [each["rule"] for each in promotion.decision.policy.rules] == ["approved"]

    def test_rules_of_its_own_stay(self):
        save_policy(environment=self.cast.production, rollback=[{"rule": "approved"}], created_by=None)
        promotion = self.roll_back()
        assert promotion.decision.verdict == "waiting_human"
        assert self.cast.production.policies.count() == 2

    def test_a_promotion_keeps_its_own(self):
        self.roll_back()
        newer = self.cast.request(environment=self.cast.production)
        assert [each["rule"] for each in newer.decision.findings] == ["approved"]

    def test_its_decision_can_be_judged_again(self):
        promotion = self.roll_back()
        replay = replay_decision(pk=promotion.decision_id)
        assert (replay.same, replay.unproven) == (True, ())
        Decision.objects.filter(pk=promotion.decision_id).update(verdict="blocked")
        assert not replay_decision(pk=promotion.decision_id).same


class SchemaTests(RollbackCase):
    def test_over_a_one_way_migration_there_is_no_way_and_nothing_is_written(self):
        three = self.release(FIRST, NEW_TABLE, DROP)
        self.cast.request(environment=self.cast.production)
        self.arrive(three)
        before = Entry.objects.count()
        with pytest.raises(DomainError) as caught:
            self.roll_back()
        assert str(caught.value) == (
            f"{self.two.version} cannot run on the database of production any more: shop.0003_drop, which "
            f"came with {three.version}, is one way (RemoveField order.total). Mend it by a newer release."
        )
        assert Entry.objects.count() == before
        assert Promotion.objects.get().status == Status.PENDING

    def test_it_names_what_could_still_run(self):
        three = self.release(FIRST, NEW_TABLE, DROP)
        four = self.release(FIRST, NEW_TABLE, DROP)
        self.arrive(three)
        self.arrive(four)
        with pytest.raises(
            DomainError, match=rf"{re.escape(three.version)} could still run there: name one of them"
        ):
            self.roll_back(release=self.one)
        assert self.roll_back().release == three

    def test_what_a_failed_deployment_brought_counts_too(self):
        failed = self.release(FIRST, NEW_TABLE, DROP)
        make_deployment(self.cast.production, failed, status=Deployment.Status.FAILED)
        with pytest.raises(DomainError, match=f"which came with {re.escape(failed.version)}"):
            self.roll_back()

    def test_what_is_no_release_may_have_migrated(self):
        foreign = make_deployment(self.cast.production, origin="outside", codedeploy_id="d-FOREIGN")
        Deployment.objects.filter(pk=foreign.pk).update(release=None)
        promotion = self.roll_back()
        assert promotion.decision.verdict == "inconclusive"
        (finding,) = (each for each in promotion.decision.findings if each["verdict"] == "inconclusive")
        assert finding["sentence"] == (
            f"It is not known whether {self.one.version} can run on the database as d-FOREIGN has left it: "
            "it brought something that is no release known here."
        )
        assert finding["who"] == "an operator of shop who knows that database, by an override"

    def test_a_contract_migration_may_be_vouched_for(self):
        self.arrive(self.release(FIRST, NEW_TABLE, CONTRACT))
        with pytest.raises(DomainError, match=r"showmigrations shop.*--not-applied shop.0003_drop"):
            self.roll_back()
        promotion = self.roll_back(not_applied=["shop.0003_drop"])
        assert promotion.decision.verdict == "pass"
        entry = Entry.objects.get(action="promotion.rollback_requested")
        assert entry.data["not_applied"] == ["shop.0003_drop"]

    def test_only_contract_migrations_can_be_vouched_for(self):
        self.arrive(self.release(FIRST, NEW_TABLE, DROP))
        with pytest.raises(Invalid, match=r"shop.0003_drop is no contract migration.*Known: none"):
            self.roll_back(not_applied=["shop.0003_drop"])

    def test_what_is_not_known_is_for_the_gate_to_say(self):
        self.arrive(self.release(FIRST, NEW_TABLE, UNKNOWN))
        promotion = self.roll_back()
        assert promotion.decision.verdict == "inconclusive"
        assert "shop.0003_own: Custom is no" in promotion.decision.findings[1]["sentence"]

    def test_what_comes_before_it_starts_is_seen_at_the_gate(self):
        promotion = self.roll_back()
        make_deployment(
            self.cast.production, self.release(FIRST, NEW_TABLE, DROP), status=Deployment.Status.FAILED
        )
        assert not start_promotion(promotion=promotion)
        assert promotion.decision.verdict == "blocked"


class OthersTests(RollbackCase):
    def test_what_waits_is_superseded_and_told_why(self):
        waiting = self.cast.request(environment=self.cast.production)
        elsewhere = self.cast.request()
        promotion = self.roll_back()
        waiting.refresh_from_db()
        elsewhere.refresh_from_db()
        assert (waiting.status, elsewhere.status) == (Status.SUPERSEDED, Status.PENDING)
        assert waiting.reason == (
            f"olga asked for production to go back to {self.one.version}. Whoever still wants "
            f"{waiting.release.version} there asks for it again."
        )
        entry = Entry.objects.get(action="promotion.superseded")
        assert entry.data == {"by": promotion.pk}

    def test_the_same_release_that_waits_as_a_promotion_is_superseded_too(self):
        waiting = self.cast.request(self.one, self.cast.production)
        promotion = self.roll_back()
        waiting.refresh_from_db()
        assert waiting.status == Status.SUPERSEDED
        assert promotion.status == Status.PENDING

    def test_a_newer_one_asked_for_after_it_waits_and_does_not_supersede_it(self):
        promotion = self.roll_back()
        self.cast.policy(self.cast.production, "built_as_defined")
        newer = self.cast.request(environment=self.cast.production)
        assert not start_promotion(promotion=newer)
        assert describe.waits(newer) == (
            f"The gate is open; it waits because promotion {promotion.pk}, a rollback, goes first."
        )
        promotion.refresh_from_db()
        assert promotion.status == Status.PENDING
        assert start_promotion(promotion=promotion)
        assert promotion.deployment.release == self.one

    def test_one_under_way_is_waited_for(self):
        self.cast.policy(self.cast.production, "built_as_defined")
        under_way = self.cast.request(environment=self.cast.production)
        assert start_promotion(promotion=under_way)
        promotion = self.roll_back()
        assert not start_promotion(promotion=promotion)
        assert f"promotion {under_way.pk} is deploying there" in describe.waits(promotion)

    def test_asked_again_it_is_the_same(self):
        promotion = self.roll_back()
        assert self.roll_back() == promotion
        other = make_member(self.cast.service, "operator", username="otto")
        with pytest.raises(DomainError, match=rf"olga has asked for .* promotion {promotion.pk} is pending"):
            self.roll_back(requested_by=other)
        # By a promotion it is not asked for a second time either.
        with pytest.raises(DomainError, match="olga has asked for it already"):
            request_promotion(release=self.one, environment=self.cast.production, requested_by=self.cast.ann)

    def test_to_another_release_it_supersedes_the_first(self):
        self.arrive(self.release(FIRST, NEW_TABLE))
        first = self.roll_back()
        second = self.roll_back(release=self.one)
        first.refresh_from_db()
        assert (first.release, first.status) == (self.two, Status.SUPERSEDED)
        assert second.status == Status.PENDING

    def test_it_can_be_cancelled(self):
        promotion = self.roll_back()
        cancel_promotion(promotion=promotion, user=self.olga)
        assert promotion.status == Status.CANCELLED


class ApiTests(RollbackCase):
    def post(self, body=None, user=None, environment=None, scopes=("operate",)):
        pk = (environment or self.cast.production).pk
        client = ApiClient(user or self.olga, *scopes)
        return client.post(
            f"/api/v1/environments/{pk}/rollback/", body or {}, content_type="application/json"
        )

    def test_it_answers_with_the_promotion(self):
        response = self.post({"comment": "checkout fails"})
        told = response.json()
        assert response.status_code == 201
        assert response["Location"] == told["links"]["self"]
        assert (told["rollback"], told["comment"], told["verdict"]) == (True, "checkout fails", "pass")
        assert told["release"]["id"] == self.one.pk
        assert self.post().status_code == 200
        found = ApiClient(self.olga).get("/api/v1/promotions/?rollback=true").json()["results"]
        assert [each["id"] for each in found] == [told["id"]]

    def test_refusals(self):
        assert self.post(scopes=("read", "ci")).status_code == 403
        assert self.post(user=self.cast.ann).status_code == 403
        assert self.post(user=self.cast.eve).status_code == 404
        assert self.post(environment=self.cast.staging).status_code == 409
        assert self.post({"release": 10**6}).status_code == 404
        assert self.post({"to": 1}).json()["errors"][0]["pointer"] == "#/to"
        assert self.post({"not_applied": ["shop.0001_initial"]}).status_code == 400
        assert not Promotion.objects.exists()


class CommandTests(RollbackCase):
    def run_command(self, *arguments):
        out, code = io.StringIO(), 0
        try:
            call_command("rollback", "shop", "production", "--user", "olga", *arguments, stdout=out)
        except SystemExit as end:
            code = end.code
        return out.getvalue(), code

    def test_it_says_what_it_asked_for(self):
        out, code = self.run_command("--comment", "checkout fails")
        assert code == 0
        assert f"{self.one.version} → shop/production is pending" in out
        assert "The gate is open" in out

    def test_its_verdict_is_its_exit_code(self):
        save_policy(environment=self.cast.production, rollback=[{"rule": "approved"}], created_by=None)
        assert self.run_command("--to", self.one.version)[1] == 11

    def test_refusals_are_errors(self):
        with pytest.raises(CommandError, match="runs in production already"):
            self.run_command("--to", self.two.version)


class AdminTests(RollbackCase):
    def test_an_operator_rolls_back_from_the_environments_page(self):
        page = reverse("admin:catalog_environment_roll_back", args=[self.cast.production.pk])
        form = {"_form_submitted": "on", "comment": "checkout fails", "to": "", "not_applied": ""}
        response = signed_in(self.olga).post(page, form)
        promotion = Promotion.objects.get()
        assert response["HX-Redirect"] == reverse("admin:promotions_promotion_change", args=[promotion.pk])
        shown = signed_in(self.olga).get(response["HX-Redirect"])
        self.assertContains(shown, "checkout fails")

    def test_a_refusal_is_a_message(self):
        page = reverse("admin:catalog_environment_roll_back", args=[self.cast.production.pk])
        form = {"_form_submitted": "on", "comment": "", "to": self.two.version, "not_applied": ""}
        client = signed_in(self.olga)
        self.assertContains(client.get(client.post(page, form)["HX-Redirect"]), "runs in production already")

    def test_who_is_no_operator_has_no_button(self):
        page = reverse("admin:catalog_environment_change", args=[self.cast.production.pk])
        root = make_user("root", is_staff=True, is_superuser=True)
        viewer = make_member(self.cast.service, "viewer", is_staff=True)
        for user, may in ((self.olga, True), (root, True), (viewer, False)):
            with self.subTest(user.username):
                shown = signed_in(user).get(page).content.decode()
                assert ("Roll back" in shown) is may
