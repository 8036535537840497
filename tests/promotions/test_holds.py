"""Pins and vetoes: who may, what they stop, and how they end."""

from datetime import timedelta
from unittest.mock import patch

import pytest
from django.db import IntegrityError, transaction
from django.test import TestCase
from django.utils import timezone

from apps.catalog.services import revoke_role
from apps.deployments.models import Deployment
from apps.errors import DomainError, Forbidden, Invalid, NotFound
from apps.ledger.models import Entry
from apps.promotions.holds import lift_pin, lift_veto, pin_environment, veto_release
from apps.promotions.models import Pin, Promotion, Standing, Veto
from apps.promotions.services import evaluate_promotion, start_promotion
from apps.promotions.standing import judge_running
from tests.factories import (
    make_deployment,
    make_environment,
    make_occupancy,
    make_pin,
    make_release,
    make_standing,
    make_user,
    make_veto,
)
from tests.promotions.cast import Cast


class HoldCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.release = cls.cast.release()
        cls.root = make_user("root", is_superuser=True)

    def pin(self, environment=None, **fields):
        defaults = {"user": self.cast.olga, "reason": "A hotfix is on its way."}
        return pin_environment(environment=environment or self.cast.staging, **{**defaults, **fields})

    def veto(self, release=None, **fields):
        defaults = {"user": self.cast.ben, "reason": "It loses orders."}
        return veto_release(release=release or self.release, **{**defaults, **fields})

    def rest(self):
        """As after the reconciler has looked at it."""
        soon = timezone.now() + timedelta(minutes=1)
        Promotion.objects.update(lease_until=soon)
        Standing.objects.update(lease_until=soon)

    def woken(self):
        return sorted(Promotion.objects.filter(lease_until=None).values_list("pk", flat=True))


class PinTests(HoldCase):
    def run_there(self):
        return make_occupancy(make_deployment(self.cast.staging, self.release))

    def test_it_holds_what_runs_and_stops_what_waits(self):
        self.run_there()
        promotion = self.cast.request()
        pin = self.pin()
        assert pin.release == self.release
        assert not start_promotion(promotion=promotion)
        finding = promotion.decision.findings[-1]
        assert (finding["rule"], finding["verdict"]) == ("not_pinned", "blocked")
        assert finding["who"] == f"an operator of shop: lift pin {pin.pk}"
        assert not Deployment.objects.active().exists()
        lift_pin(pin=pin, user=self.cast.omar, comment="It is out.")
        assert start_promotion(promotion=promotion)

    def test_the_ledger_tells_of_both_ends(self):
        pin = self.pin(release=self.release)
        lift_pin(pin=pin, user=self.cast.omar, comment="It is out.")
        entries = Entry.objects.filter(subject=f"environment:{self.cast.staging.pk}").order_by("sequence")
        first, last = entries
        assert (first.action, first.actor) == ("environment.pinned", self.cast.olga)
        assert (first.data["release"], first.data["reason"]) == (self.release.version, pin.reason)
        assert (last.action, last.actor) == ("environment.unpinned", self.cast.omar)
        assert last.data == {"pin": pin.pk, "environment": "staging", "comment": "It is out."}

    def test_the_release_that_it_names_alone_may_go_there(self):
        self.pin(release=self.release)
        assert self.cast.request().decision.verdict == "blocked"
        Promotion.objects.all().update(status="cancelled")
        assert self.cast.request(self.release).decision.verdict == "pass"

    def test_only_operators_and_superusers_may(self):
        pin = make_pin(self.cast.production, self.release)
        for user, error in (
            (self.cast.ann, Forbidden),
            (self.cast.ben, Forbidden),
            (self.cast.vic, Forbidden),
            (self.cast.eve, NotFound),
        ):
            with pytest.raises(error):
                self.pin(user=user, release=self.release)
            with pytest.raises(error):
                lift_pin(pin=pin, user=user)
        assert Pin.objects.standing().count() == 1
        lift_pin(pin=pin, user=self.root)
        self.pin(user=self.root, release=self.release)

    def test_what_makes_no_sense_is_refused(self):
        with pytest.raises(DomainError, match="Nothing runs in staging that it could be held at"):
            self.pin()
        with pytest.raises(Invalid, match="is not of shop"):
            self.pin(release=make_release())
        with pytest.raises(Invalid, match="A pin needs a reason"):
            self.pin(release=self.release, reason=" ")
        with pytest.raises(Invalid, match="would have expired already"):
            self.pin(release=self.release, expires_at=timezone.now())
        assert not Pin.objects.exists()

    def test_one_at_a_time_and_the_same_twice_is_one(self):
        pin = self.pin(release=self.release)
        assert self.pin(release=self.release) == pin
        with pytest.raises(DomainError, match=r"by olga: A hotfix is on its way. Lift that pin first"):
            self.pin(release=self.release, user=self.cast.omar)
        assert Entry.objects.filter(action="environment.pinned").count() == 1
        lift_pin(pin=pin, user=self.cast.olga)
        with pytest.raises(DomainError, match="holds staging no longer"):
            lift_pin(pin=Pin.objects.get(pk=pin.pk), user=self.cast.olga)
        assert self.pin(release=self.release) != pin

    def test_one_that_has_expired_holds_nothing_and_gives_way(self):
        pin = self.pin(release=self.release, expires_at=timezone.now() + timedelta(hours=1))
        promotion = self.cast.request()
        assert promotion.decision.verdict == "blocked"
        later = timezone.now() + timedelta(hours=2)
        with patch.object(timezone, "now", return_value=later):
            assert evaluate_promotion(promotion=promotion).verdict == "pass"
            with pytest.raises(DomainError, match="no longer"):
                lift_pin(pin=pin, user=self.cast.olga)
            self.pin(release=self.release, user=self.cast.omar)
        pin.refresh_from_db()
        assert (pin.lifted_at, pin.lifted_by) == (pin.expires_at, None)

    def test_it_stands_although_who_set_it_has_left(self):
        self.pin(release=self.release)
        revoke_role(user=self.cast.olga, service=self.cast.service, role="operator")
        assert self.cast.request().decision.verdict == "blocked"

    def test_what_waits_there_is_judged_at_once(self):
        here, elsewhere = self.cast.request(), self.cast.request(environment=self.cast.production)
        self.rest()
        with self.captureOnCommitCallbacks(execute=True):
            pin = self.pin(release=self.release)
        assert self.woken() == [here.pk]
        self.rest()
        with self.captureOnCommitCallbacks(execute=True):
            lift_pin(pin=pin, user=self.cast.olga)
        assert self.woken() == [here.pk]
        assert elsewhere.pk not in self.woken()

    def test_what_runs_because_of_its_gate_is_not_touched_by_a_later_pin(self):
        promotion = self.cast.request(self.release)
        start_promotion(promotion=promotion)
        make_occupancy(promotion.deployment)
        self.pin(release=self.cast.release())
        assert judge_running(self.cast.staging).still_passes

    def test_a_foreign_release_in_a_pinned_environment_is_shown(self):
        self.pin(release=self.release)
        make_occupancy(make_deployment(self.cast.staging, self.cast.release()))
        assert [each.rule for each in judge_running(self.cast.staging).unmet] == ["not_pinned"]

    def test_the_database_itself_refuses_a_second_one(self):
        self.pin(release=self.release)
        with pytest.raises(IntegrityError), transaction.atomic():
            make_pin(self.cast.staging, self.release)


class VetoTests(HoldCase):
    def test_it_stops_the_release_where_it_is_meant_until_it_is_lifted(self):
        promotion = self.cast.request(self.release)
        self.veto(environment=self.cast.production)
        assert evaluate_promotion(promotion=promotion).verdict == "pass"
        veto = self.veto()
        assert not start_promotion(promotion=promotion)
        finding = promotion.decision.findings[-1]
        assert (finding["rule"], finding["verdict"]) == ("not_vetoed", "blocked")
        assert finding["sentence"] == "ben vetoed it for every environment: It loses orders."
        lift_veto(veto=veto, user=self.cast.cem)
        assert start_promotion(promotion=promotion)

    def test_the_ledger_tells_of_both_ends(self):
        veto = self.veto(environment=self.cast.production)
        lift_veto(veto=veto, user=self.cast.olga, comment="It was the load balancer.")
        first, last = Entry.objects.filter(subject=f"release:{self.release.pk}").order_by("sequence")
        assert (first.action, first.actor) == ("release.vetoed", self.cast.ben)
        assert (first.data["environment"], first.data["reason"]) == ("production", "It loses orders.")
        assert (last.action, last.actor) == ("release.veto_lifted", self.cast.olga)
        assert last.data["comment"] == "It was the load balancer."

    def test_approvers_operators_and_superusers_may(self):
        for user in (self.cast.ben, self.cast.olga, self.root):
            veto = self.veto(user=user)
            lift_veto(veto=veto, user=user)
        veto = self.veto()
        for user, error in (
            (self.cast.ann, Forbidden),
            (self.cast.vic, Forbidden),
            (self.cast.eve, NotFound),
        ):
            with pytest.raises(error):
                self.veto(user=user, environment=self.cast.staging)
            with pytest.raises(error):
                lift_veto(veto=veto, user=user)
        assert Veto.objects.standing().get() == veto

    def test_what_makes_no_sense_is_refused(self):
        with pytest.raises(Invalid, match="A veto needs a reason"):
            self.veto(reason="")
        with pytest.raises(Invalid, match="is not of shop"):
            self.veto(environment=make_environment())
        veto = self.veto()
        assert self.veto() == veto
        with pytest.raises(DomainError, match=r"ben has vetoed .* already: It loses orders"):
            self.veto(user=self.cast.cem)
        lift_veto(veto=veto, user=self.cast.ben)
        with pytest.raises(DomainError, match="is lifted already"):
            lift_veto(veto=Veto.objects.get(pk=veto.pk), user=self.cast.ben)
        assert Veto.objects.count() == 1

    def test_what_runs_goes_on_and_is_shown_at_once(self):
        promotion = self.cast.request(self.release)
        start_promotion(promotion=promotion)
        make_occupancy(promotion.deployment)
        make_standing(self.cast.staging, self.release)
        self.rest()
        with self.captureOnCommitCallbacks(execute=True):
            self.veto()
        assert Standing.objects.get().lease_until is None
        promotion.refresh_from_db()
        assert promotion.status == "deploying"
        assert [each.rule for each in judge_running(self.cast.staging).unmet] == ["not_vetoed"]

    def test_what_waits_is_judged_at_once(self):
        promotion = self.cast.request(self.release)
        self.cast.request(environment=self.cast.production)
        self.rest()
        with self.captureOnCommitCallbacks(execute=True):
            veto = self.veto(environment=self.cast.production)
        assert self.woken() == [promotion.pk]
        self.rest()
        with self.captureOnCommitCallbacks(execute=True):
            lift_veto(veto=veto, user=self.cast.ben)
        assert self.woken() == [promotion.pk]

    def test_the_database_itself_refuses_a_second_one_of_its_scope(self):
        for environment in (None, self.cast.staging):
            make_veto(self.release, environment)
            with pytest.raises(IntegrityError), transaction.atomic():
                make_veto(self.release, environment)
