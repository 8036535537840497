import pytest
from django.db import IntegrityError, connection, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from apps.catalog.services import revoke_role
from apps.deployments.models import Deployment
from apps.errors import DomainError, Forbidden, Invalid, NotFound
from apps.gates.evaluate import judge
from apps.gates.facts import Facts
from apps.gates.models import Decision
from apps.gates.verdicts import Verdict
from apps.ledger.models import Entry
from apps.ledger.services import first_broken
from apps.promotions.models import Approval, Promotion
from apps.promotions.services import (
    approve_promotion,
    blocker,
    cancel_promotion,
    evaluate_promotion,
    evaluate_promotions,
    get_promotion,
    reject_promotion,
    request_promotion,
    start_promotion,
    withdraw_approval,
)
from tests.factories import (
    make_deployment,
    make_environment,
    make_occupancy,
    make_policy,
    make_promotion,
    make_release,
    make_report,
    make_service,
    make_user,
)
from tests.promotions.cast import Cast

Status = Promotion.Status


class PromotionTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()

    def actions(self, promotion):
        entries = Entry.objects.filter(subject=f"promotion:{promotion.pk}").order_by("sequence")
        return list(entries.values_list("action", flat=True))


class RequestTests(PromotionTests):
    def test_it_is_judged_at_once(self):
        promotion = self.cast.request()
        assert promotion.status == Status.PENDING
        assert promotion.decision.verdict == Verdict.PASS
        assert promotion.decision.facts["promotion"]["id"] == promotion.pk
        assert self.actions(promotion) == ["promotion.requested", "promotion.judged"]
        assert Entry.objects.get(action="promotion.requested").actor == self.cast.ann

    def test_an_unmet_gate_is_a_finding_and_not_an_error(self):
        self.cast.policy(self.cast.production, "verified_upstream")
        promotion = self.cast.request(environment=self.cast.production)
        assert promotion.decision.verdict == Verdict.BLOCKED

    def test_without_a_policy_the_gate_is_shut(self):
        promotion = self.cast.request(environment=self.cast.production)
        assert promotion.decision.verdict == Verdict.INCONCLUSIVE
        assert "has no rules" in promotion.decision.findings[0]["sentence"]

    def test_only_developers_and_operators_may_ask(self):
        release = self.cast.release()
        for user, error in (
            (self.cast.ben, Forbidden),
            (self.cast.vic, Forbidden),
            (self.cast.eve, NotFound),
        ):
            with pytest.raises(error):
                request_promotion(release=release, environment=self.cast.staging, requested_by=user)
        assert not Promotion.objects.exists()

    def test_a_release_of_another_service_is_refused(self):
        with pytest.raises(Invalid, match="is not of shop"):
            self.cast.request(make_release())

    def test_asking_again_is_the_same_promotion(self):
        first = self.cast.request()
        assert self.cast.request(first.release) == first
        assert start_promotion(promotion=first)
        assert self.cast.request(first.release) == first

    def test_someone_else_asking_for_the_same_is_told_who_was_first(self):
        first = self.cast.request()
        with pytest.raises(DomainError, match="ann has asked for it already"):
            request_promotion(
                release=first.release, environment=self.cast.staging, requested_by=self.cast.dan
            )

    def test_a_newer_release_supersedes_an_older_pending_one(self):
        old = self.cast.request()
        new = self.cast.request()
        old.refresh_from_db()
        assert old.status == Status.SUPERSEDED
        assert old.finished_at is not None
        assert new.release.version in old.reason
        assert self.actions(old)[-1] == "promotion.superseded"

    def test_it_supersedes_nothing_elsewhere(self):
        old = self.cast.request(environment=self.cast.production)
        self.cast.request()
        old.refresh_from_db()
        assert old.status == Status.PENDING

    def test_an_older_release_is_refused_while_a_newer_one_waits(self):
        older = self.cast.release()
        newer = self.cast.request()
        with pytest.raises(DomainError, match=f"promotion {newer.pk}"):
            self.cast.request(older)

    def test_it_may_wait_for_one_that_is_under_way(self):
        first = self.cast.request()
        start_promotion(promotion=first)
        second = self.cast.request()
        assert second.status == Status.PENDING
        assert not start_promotion(promotion=second)
        second.refresh_from_db()
        assert second.status == Status.PENDING
        assert (
            blocker(environment=self.cast.staging, promotion=second)
            == f"promotion {first.pk} is deploying there"
        )


class EvaluateTests(PromotionTests):
    def test_no_change_writes_no_decision(self):
        promotion = self.cast.request()
        before = Decision.objects.count()
        assert evaluate_promotion(promotion=promotion) == promotion.decision
        assert evaluate_promotion(promotion=get_promotion(promotion.pk)) == promotion.decision
        assert Decision.objects.count() == before

    def test_a_stored_decision_judged_again_says_the_same(self):
        self.cast.policy(self.cast.staging, "built_as_defined", "max_failures", "approved")
        promotion = self.cast.request()
        approve_promotion(promotion=promotion, user=self.cast.ben)
        for stored in Decision.objects.filter(release=promotion.release):
            facts = Facts.from_json(stored.facts)
            verdict, findings = judge(rules=stored.policy.rules, facts=facts, at=stored.evaluated_at)
            assert verdict == stored.verdict
            assert [finding.to_json() for finding in findings] == stored.findings

    def test_new_evidence_is_a_new_decision(self):
        promotion = self.cast.request()
        make_report(promotion.release.build, name="e2e", failed=1)
        decision = evaluate_promotion(promotion=promotion)
        assert Decision.objects.filter(release=promotion.release).count() == 2
        assert promotion.decision == decision
        assert self.actions(promotion).count("promotion.judged") == 2

    def test_a_changed_policy_is_a_new_decision_by_that_policy(self):
        promotion = self.cast.request()
        self.cast.policy(self.cast.staging, "built_as_defined", "approved")
        decision = evaluate_promotion(promotion=promotion)
        assert decision.policy.version == 2
        assert decision.verdict == Verdict.WAITING_HUMAN

    def test_what_is_over_keeps_its_last_decision(self):
        promotion = self.cast.request()
        cancel_promotion(promotion=promotion, user=self.cast.ann)
        self.cast.policy(self.cast.staging, "approved")
        decision = evaluate_promotion(promotion=promotion)
        assert decision.policy.version == 1

    def test_an_approval_counts_no_longer_when_the_role_is_gone(self):
        self.cast.policy(self.cast.staging, "approved")
        promotion = self.cast.request()
        approve_promotion(promotion=promotion, user=self.cast.ben)
        assert promotion.decision.verdict == Verdict.PASS
        revoke_role(user=self.cast.ben, service=self.cast.service, role="approver")
        assert evaluate_promotion(promotion=promotion).verdict == Verdict.WAITING_HUMAN
        assert not start_promotion(promotion=promotion)

    def test_verified_upstream_sees_what_was_deployed(self):
        self.cast.policy(self.cast.production, "verified_upstream")
        release = self.cast.release()
        promotion = self.cast.request(release, self.cast.production)
        assert promotion.decision.verdict == Verdict.BLOCKED
        make_occupancy(make_deployment(self.cast.staging, release))
        assert evaluate_promotion(promotion=promotion).verdict == Verdict.PASS


class EvaluateSeveralTests(PromotionTests):
    """As the reconciler does it."""

    @classmethod
    def setUpTestData(cls):
        super().setUpTestData()
        environments = [cls.cast.staging, cls.cast.production]
        environments += [make_environment(make_service(f"other-{number}")) for number in range(2)]
        cls.promotions = []
        for environment in environments:
            if environment.service != cls.cast.service:
                make_policy(environment, [{"rule": "built_as_defined", "parameters": {}}])
            release = make_release(environment.service)
            make_report(release.build)
            cls.promotions.append(make_promotion(environment, release, requested_by=cls.cast.ann))

    def evaluate(self):
        opens = evaluate_promotions(promotions=[each.pk for each in self.promotions])
        for promotion in self.promotions:
            promotion.refresh_from_db()
        return opens

    def test_each_gets_the_decision_that_it_would_get_alone(self):
        opens = self.evaluate()
        first, shut, *others = self.promotions
        assert opens == [each.pk for each in (first, *others)]
        assert shut.decision.verdict == Verdict.INCONCLUSIVE
        for promotion in self.promotions:
            assert promotion.decision.release == promotion.release
            assert promotion.decision.environment == promotion.environment
            assert promotion.decision.facts["promotion"]["id"] == promotion.pk
            assert self.actions(promotion) == ["promotion.judged"]
            assert evaluate_promotion(promotion=get_promotion(promotion.pk)) == promotion.decision
        for chain in ("shop", "other-0", "other-1"):
            assert first_broken(chain=chain) is None

    def test_only_what_changed_is_written(self):
        self.evaluate()
        before = [each.decision_id for each in self.promotions]
        entries = Entry.objects.count()
        make_report(self.promotions[2].release.build, name="e2e")
        self.evaluate()
        changed = [each.decision_id != old for each, old in zip(self.promotions, before, strict=True)]
        assert changed == [False, False, True, False]
        assert Entry.objects.count() == entries + 1

    def test_what_is_over_is_left_out(self):
        over = self.promotions[0]
        Promotion.objects.filter(pk=over.pk).update(status=Status.CANCELLED)
        assert over.pk not in self.evaluate()
        assert over.decision is None

    def test_several_cost_as_many_queries_as_one(self):
        self.evaluate()
        counts = []
        # The one that is promoted from another place, since nothing is asked about upstreams of none.
        for several in (self.promotions[1:2], self.promotions):
            for promotion in several:
                make_report(promotion.release.build, name=f"more-{len(counts)}")
            with CaptureQueriesContext(connection) as queries:
                evaluate_promotions(promotions=[each.pk for each in several])
            counts.append(len(queries))
        assert counts[0] == counts[1]


class ApproveTests(PromotionTests):
    def setUp(self):
        self.cast.policy(self.cast.staging, "approved")
        self.promotion = self.cast.request()

    def test_an_approver_opens_the_gate(self):
        approve_promotion(promotion=self.promotion, user=self.cast.ben, comment="fine")
        assert self.promotion.decision.verdict == Verdict.PASS
        entry = Entry.objects.get(action="promotion.approved")
        assert (entry.actor, entry.data) == (self.cast.ben, {"comment": "fine"})

    def test_nobody_else_may(self):
        root = make_user("root", is_superuser=True)
        for user, error in (
            (self.cast.ann, Forbidden),
            (self.cast.vic, Forbidden),
            (root, Forbidden),
            (self.cast.eve, NotFound),
        ):
            with pytest.raises(error):
                approve_promotion(promotion=self.promotion, user=user)
        assert not Approval.objects.exists()

    def test_not_even_an_approver_who_asked_for_it(self):
        promotion = request_promotion(
            release=self.cast.release(), environment=self.cast.production, requested_by=self.cast.dan
        )
        with pytest.raises(Forbidden, match="dan, who asked for it"):
            approve_promotion(promotion=promotion, user=self.cast.dan)

    def test_what_was_withdrawn_counts_no_longer_and_can_be_given_anew(self):
        approve_promotion(promotion=self.promotion, user=self.cast.ben)
        given = withdraw_approval(promotion=self.promotion, user=self.cast.ben, comment="I misread it.")
        assert given.withdrawn_at is not None
        assert self.promotion.decision.verdict == Verdict.WAITING_HUMAN
        assert "ben" in self.promotion.decision.findings[0]["who"]
        entry = Entry.objects.get(action="promotion.approval_withdrawn")
        assert (entry.actor, entry.data) == (self.cast.ben, {"comment": "I misread it."})
        assert not start_promotion(promotion=self.promotion)
        approve_promotion(promotion=self.promotion, user=self.cast.ben)
        assert self.promotion.decision.verdict == Verdict.PASS
        assert Approval.objects.count() == 2

    def test_only_ones_own_approval_can_be_withdrawn(self):
        approve_promotion(promotion=self.promotion, user=self.cast.ben)
        with pytest.raises(DomainError, match="cem has not approved"):
            withdraw_approval(promotion=self.promotion, user=self.cast.cem)
        for user, error in ((self.cast.ann, Forbidden), (self.cast.eve, NotFound)):
            with pytest.raises(error):
                withdraw_approval(promotion=self.promotion, user=user)
        withdraw_approval(promotion=self.promotion, user=self.cast.ben)
        with pytest.raises(DomainError, match="ben has not approved"):
            withdraw_approval(promotion=self.promotion, user=self.cast.ben)

    def test_a_rejection_stays(self):
        reject_promotion(promotion=self.promotion, user=self.cast.ben, comment="")
        with pytest.raises(DomainError, match="ben has not approved"):
            withdraw_approval(promotion=self.promotion, user=self.cast.ben)

    def test_what_is_under_way_goes_on_without_a_new_decision(self):
        approve_promotion(promotion=self.promotion, user=self.cast.ben)
        start_promotion(promotion=self.promotion)
        decision = self.promotion.decision
        withdraw_approval(promotion=self.promotion, user=self.cast.ben)
        self.promotion.refresh_from_db()
        assert (self.promotion.status, self.promotion.decision) == (Status.DEPLOYING, decision)

    def test_a_word_is_given_once(self):
        approve_promotion(promotion=self.promotion, user=self.cast.ben)
        for say in (approve_promotion, reject_promotion):
            with pytest.raises(DomainError, match="ben has approved promotion"):
                say(promotion=self.promotion, user=self.cast.ben, comment="")

    def test_two_copies_of_the_row_give_one_approval(self):
        copies = [get_promotion(self.promotion.pk), get_promotion(self.promotion.pk)]
        approve_promotion(promotion=copies[0], user=self.cast.ben)
        with pytest.raises(DomainError, match="already"):
            approve_promotion(promotion=copies[1], user=self.cast.ben)
        assert Approval.objects.count() == 1

    def test_a_copy_that_is_out_of_date_cannot_approve_what_is_cancelled(self):
        copies = [get_promotion(self.promotion.pk), get_promotion(self.promotion.pk)]
        cancel_promotion(promotion=copies[0], user=self.cast.ann)
        with pytest.raises(DomainError, match="is cancelled: it no longer waits"):
            approve_promotion(promotion=copies[1], user=self.cast.ben)
        assert not Approval.objects.exists()

    def test_a_rejection_is_the_end(self):
        reject_promotion(promotion=self.promotion, user=self.cast.ben, comment="too risky")
        self.promotion.refresh_from_db()
        assert self.promotion.status == Status.REJECTED
        assert self.promotion.reason == "Rejected by ben: too risky"
        assert self.promotion.decision.verdict == Verdict.BLOCKED
        with pytest.raises(DomainError):
            approve_promotion(promotion=self.promotion, user=self.cast.cem)


class CancelTests(PromotionTests):
    def test_requester_and_movers_may(self):
        for user in (self.cast.ann, self.cast.dan):
            promotion = self.cast.request()
            cancel_promotion(promotion=promotion, user=user, reason="not today")
            assert promotion.status == Status.CANCELLED
            assert promotion.reason == f"Cancelled by {user.username}: not today"
            assert promotion.finished_at is not None

    def test_others_may_not(self):
        promotion = self.cast.request()
        for user, error in ((self.cast.ben, Forbidden), (self.cast.eve, NotFound)):
            with pytest.raises(error):
                cancel_promotion(promotion=promotion, user=user)

    def test_two_copies_are_cancelled_once(self):
        promotion = self.cast.request()
        copy = get_promotion(promotion.pk)
        cancel_promotion(promotion=promotion, user=self.cast.ann)
        with pytest.raises(DomainError, match="is cancelled"):
            cancel_promotion(promotion=copy, user=self.cast.ann)
        assert self.actions(promotion).count("promotion.cancelled") == 1

    def test_what_is_under_way_cannot_be_cancelled_by_an_old_copy(self):
        promotion = self.cast.request()
        copy = get_promotion(promotion.pk)
        start_promotion(promotion=promotion)
        with pytest.raises(DomainError, match="is deploying"):
            cancel_promotion(promotion=copy, user=self.cast.ann)
        promotion.refresh_from_db()
        assert promotion.status == Status.DEPLOYING


class StartTests(PromotionTests):
    def test_an_open_gate_writes_the_intent(self):
        promotion = self.cast.request()
        assert start_promotion(promotion=promotion)
        promotion.refresh_from_db()
        deployment = promotion.deployment
        assert promotion.status == Status.DEPLOYING
        assert (deployment.status, deployment.release) == (Deployment.Status.INTENDED, promotion.release)
        entry = Entry.objects.get(action="promotion.started")
        assert entry.data["intent"] == str(deployment.intent)
        assert entry.data["decision"] == promotion.decision_id

    def test_a_shut_gate_does_not(self):
        self.cast.policy(self.cast.staging, "approved")
        promotion = self.cast.request()
        assert not start_promotion(promotion=promotion)
        assert not Deployment.objects.exists()

    def test_the_gate_is_judged_again_at_the_last_moment(self):
        promotion = self.cast.request()
        assert promotion.decision.verdict == Verdict.PASS
        promotion.release.build.deviations = ["image is another"]
        promotion.release.build.save()
        assert not start_promotion(promotion=promotion)
        promotion.refresh_from_db()
        assert promotion.decision.verdict == Verdict.BLOCKED
        assert not Deployment.objects.exists()

    def test_two_copies_start_once(self):
        promotion = self.cast.request()
        copy = get_promotion(promotion.pk)
        assert start_promotion(promotion=promotion)
        assert not start_promotion(promotion=copy)
        assert Deployment.objects.count() == 1

    def test_a_foreign_deployment_is_waited_for(self):
        make_deployment(self.cast.staging, status=Deployment.Status.RUNNING)
        promotion = self.cast.request()
        assert not start_promotion(promotion=promotion)
        promotion.refresh_from_db()
        assert promotion.decision.verdict == Verdict.PASS

    def test_the_database_itself_refuses_a_second_one_under_way(self):
        start_promotion(promotion=self.cast.request())
        second = self.cast.request()
        deployment = make_deployment(self.cast.staging)
        with pytest.raises(IntegrityError), transaction.atomic():
            Promotion.objects.filter(pk=second.pk).update(status=Status.DEPLOYING, deployment=deployment)
