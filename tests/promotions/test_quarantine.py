"""Quarantine: who may, for how long, and what it does at a gate."""

import io
from datetime import timedelta
from functools import partial

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import TestCase
from django.utils import timezone

from apps.builds.models import LONGEST_QUARANTINE, CaseState, Quarantine
from apps.builds.models import TestCase as Case
from apps.builds.parsers.case import Outcome
from apps.errors import DomainError, Forbidden, Invalid, NotFound
from apps.leases import take
from apps.ledger.models import Entry
from apps.promotions.explanation import explain_promotion
from apps.promotions.facts import gather
from apps.promotions.models import Promotion
from apps.promotions.quarantine import lift_quarantine, quarantine_case
from apps.promotions.services import evaluate_promotion
from apps.promotions.standing import judge_running
from tests.builds.test_store import case, read, write
from tests.clients import ApiClient
from tests.factories import make_build, make_deployment, make_member, make_occupancy, make_release
from tests.promotions.cast import Cast
from tests.races import all_at_once

PATH = "/api/v1/quarantines/"


def days(number: float) -> timedelta:
    return timedelta(days=number)


class QuarantineTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.oda = make_member(cls.cast.service, "operator", username="oda")
        cls.build = make_build(cls.cast.service)
        cases = [case("red", Outcome.FAILED), case("green"), case("bad", Outcome.ERROR)]
        write(cls.build, read(cls.build, *cases))
        cls.red, cls.green, cls.bad = (Case.objects.get(name=name) for name in ("red", "green", "bad"))
        cls.release = make_release(build=cls.build)

    def quarantine(self, test=None, user=None, reason="see #12", until=None):
        return quarantine_case(
            case=test or self.red,
            user=user or self.cast.ben,
            reason=reason,
            until=until or timezone.now() + days(7),
        )

    def gate(self, **parameters) -> Promotion:
        """A promotion at a gate that lets through no more than one failure that is excused."""
        entry = {"rule": "max_failures", "parameters": {"maximum": 1, "excuse_quarantined": 1, **parameters}}
        self.cast.policy(self.cast.staging, entry)
        return self.cast.request(self.release)

    def test_approvers_and_operators_may_and_nobody_else(self):
        assert self.quarantine(self.red, self.cast.ben).in_force
        assert self.quarantine(self.green, self.oda).in_force
        for user, error in (
            (self.cast.ann, Forbidden),
            (self.cast.vic, Forbidden),
            (self.cast.eve, NotFound),
        ):
            with pytest.raises(error):
                self.quarantine(self.bad, user)

    def test_the_ledger_tells_of_it(self):
        quarantine = self.quarantine()
        entry = Entry.objects.filter(chain="shop").order_by("-sequence").first()
        assert (entry.action, entry.actor.username) == ("case.quarantined", "ben")
        assert entry.data["test"] == "c::red"
        assert (entry.data["reason"], entry.data["quarantine"]) == ("see #12", quarantine.pk)

    def test_it_needs_a_reason_and_an_end(self):
        for reason in ("", "  \n", "x" * 2001):
            with pytest.raises(Invalid, match="Say why"):
                self.quarantine(reason=reason)
        for until in (timezone.now(), timezone.now() + LONGEST_QUARANTINE + days(1)):
            with pytest.raises(Invalid, match="within 90 days"):
                self.quarantine(until=until)
        assert not Quarantine.objects.exists()

    def test_the_database_refuses_one_that_does_not_end(self):
        quarantine = self.quarantine()
        with pytest.raises(IntegrityError), transaction.atomic():
            Quarantine.objects.filter(pk=quarantine.pk).update(until=timezone.now() + days(91))

    def test_a_quarantined_test_is_not_quarantined_again_before_that_ends(self):
        first = self.quarantine()
        # What is sent again is the same.
        assert self.quarantine(until=first.until) == first
        with pytest.raises(DomainError, match="quarantined already: by ben until"):
            self.quarantine(user=self.oda)
        lift_quarantine(quarantine=first, user=self.oda)
        assert self.quarantine(user=self.oda).in_force

    def test_it_is_lifted_once_by_approvers_and_operators(self):
        quarantine = self.quarantine(self.green)
        assert CaseState.objects.get(case=self.green).state == "healthy"
        for user, error in ((self.cast.ann, Forbidden), (self.cast.eve, NotFound)):
            with pytest.raises(error):
                lift_quarantine(quarantine=quarantine, user=user)
        lift_quarantine(quarantine=quarantine, user=self.oda, comment="mended")
        quarantine.refresh_from_db()
        assert (quarantine.in_force, quarantine.lifted_by) == (False, self.oda)
        entry = Entry.objects.filter(chain="shop").order_by("-sequence").first()
        assert (entry.action, entry.data["comment"]) == ("case.quarantine_lifted", "mended")
        assert not CaseState.objects.filter(case=self.green).exists()
        with pytest.raises(DomainError, match="has ended"):
            lift_quarantine(quarantine=quarantine, user=self.oda)

    def test_a_test_without_outcomes_is_refused(self):
        old = Case.objects.create(pk=5, service=self.cast.service, group="unit", name="old")
        with pytest.raises(DomainError, match="No outcome of old is kept"):
            self.quarantine(old)
        assert not Quarantine.objects.exists()

    def test_a_gate_excuses_what_its_policy_says_and_names_it(self):
        promotion = self.gate()
        assert promotion.decision.verdict == "blocked"
        quarantine = self.quarantine()
        decision = evaluate_promotion(promotion=promotion)
        assert decision.verdict == "pass"
        (finding,) = decision.findings
        until = f"{quarantine.until:%Y-%m-%d %H:%M} UTC"
        assert finding["sentence"].endswith(f"Excused, since quarantined: c::red (by ben until {until}).")
        (told,) = finding["evidence"]["excused"]
        assert (told["quarantine"], told["name"], told["by"], told["reason"]) == (
            quarantine.pk,
            "c::red",
            "ben",
            "see #12",
        )

    def test_by_itself_a_quarantine_excuses_nothing(self):
        self.quarantine()
        promotion = self.gate(excuse_quarantined=0)
        assert promotion.decision.verdict == "blocked"
        assert "quarantine" not in promotion.decision.findings[0]["sentence"]

    def test_no_more_are_excused_than_the_policy_says(self):
        promotion = self.gate(maximum=0)
        self.quarantine()
        self.quarantine(self.bad)
        decision = evaluate_promotion(promotion=promotion)
        assert decision.verdict == "blocked"
        assert "1 more are quarantined, and count" in decision.findings[0]["sentence"]

    def test_what_is_lifted_or_has_run_out_counts_again(self):
        promotion = self.gate()
        quarantine = self.quarantine()
        assert evaluate_promotion(promotion=promotion).verdict == "pass"
        lift_quarantine(quarantine=quarantine, user=self.cast.ben)
        assert evaluate_promotion(promotion=promotion).verdict == "blocked"
        quarantine = self.quarantine()
        assert evaluate_promotion(promotion=promotion).verdict == "pass"
        began = timezone.now() - days(8)
        Quarantine.objects.filter(pk=quarantine.pk).update(created_at=began, until=began + days(7))
        assert evaluate_promotion(promotion=promotion).verdict == "blocked"

    def test_the_explanation_names_it(self):
        promotion = self.gate()
        self.quarantine()
        (finding,) = explain_promotion(promotion).findings
        assert "c::red (by ben" in finding.sentence

    def test_it_wakes_what_waits_at_a_gate(self):
        promotion = self.gate()
        Promotion.objects.update(lease_until=timezone.now() + days(1))
        assert take(Promotion.objects.pending(), owner="me", duration=days(1)) is None
        with self.captureOnCommitCallbacks(execute=True):
            quarantine = self.quarantine()
        lease = take(Promotion.objects.pending(), owner="me", duration=days(1))
        assert lease.pk == promotion.pk
        lease.release(days(1))
        with self.captureOnCommitCallbacks(execute=True):
            lift_quarantine(quarantine=quarantine, user=self.cast.ben)
        assert take(Promotion.objects.pending(), owner="me", duration=days(1)) is not None

    def test_what_runs_stands_no_longer_when_it_ends(self):
        promotion = self.gate()
        quarantine = self.quarantine()
        evaluate_promotion(promotion=promotion)
        deployment = make_deployment(self.cast.staging, self.release)
        Promotion.objects.filter(pk=promotion.pk).update(deployment=deployment, status="succeeded")
        make_occupancy(deployment)
        assert judge_running(self.cast.staging).still_passes
        lift_quarantine(quarantine=quarantine, user=self.cast.ben)
        assert not judge_running(self.cast.staging).still_passes

    def test_only_failures_of_the_build_are_facts_each_once(self):
        other = make_build(self.cast.service)
        write(other, read(other, case("red"), case("green", Outcome.FAILED)))
        self.quarantine(self.green)
        self.quarantine(self.red)
        facts = gather(release=self.release, environment=self.cast.staging)
        assert [(each.name, each.report, each.by.username) for each in facts.quarantines] == [
            ("c::red", "unit", "ben")
        ]

    def test_one_that_fails_in_two_reports_is_two_failures(self):
        build = make_build(self.cast.service)
        write(build, *(read(build, case("red", Outcome.FAILED)) for _ in range(2)))
        self.quarantine()
        facts = gather(release=make_release(build=build), environment=self.cast.staging)
        assert [each.report for each in facts.quarantines] == ["unit", "unit (2)"]


class QuarantineApiTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        build = make_build(cls.cast.service)
        write(build, read(build, case("red", Outcome.FAILED)))
        cls.red = Case.objects.get()

    def setUp(self):
        self.client = ApiClient(self.cast.ben)

    def body(self, **fields):
        until = (timezone.now() + days(7)).isoformat()
        return {"case": str(self.red.pk), "reason": "see #12", "until": until, **fields}

    def post(self, path=PATH, client=None, **fields):
        body = self.body(**fields) if path == PATH else fields
        return (client or self.client).post(path, body, content_type="application/json")

    def test_quarantine_and_lift(self):
        response = self.post()
        assert response.status_code == 201
        made = response.json()
        assert (made["case"], made["by"], made["in_force"]) == (str(self.red.pk), "ben", True)
        assert response["Location"].endswith(f"{PATH}{made['id']}/")
        assert self.client.get(f"{PATH}{made['id']}/").json() == made
        lifted = self.post(f"{PATH}{made['id']}/lift/")
        assert lifted.status_code == 200
        assert (lifted.json()["in_force"], lifted.json()["lifted_by"]) == (False, "ben")
        assert self.post(f"{PATH}{made['id']}/lift/").status_code == 409
        assert self.client.get(PATH, {"in_force": "true"}).json()["results"] == []
        assert len(self.client.get(PATH, {"in_force": "false"}).json()["results"]) == 1

    def test_a_case_may_be_a_number_too(self):
        assert self.post(case=self.red.pk).status_code == 201

    def test_bad_bodies_name_the_field(self):
        for field, value in (
            ("case", "red"),
            ("case", "9" * 30),
            ("reason", ""),
            ("until", "soon"),
            ("why", "x"),
        ):
            with self.subTest(field, value=value):
                response = self.post(**{field: value})
                assert response.status_code == 400
                assert response.json()["errors"][0]["pointer"] == f"#/{field}"
        assert self.post(until=(timezone.now() + days(91)).isoformat()).status_code == 400
        assert self.post(case="9" * 19).status_code == 404
        assert self.post(case="17").status_code == 404

    def test_who_may_not(self):
        assert self.post(client=ApiClient(self.cast.ann)).status_code == 403
        assert self.post(client=ApiClient(self.cast.vic)).status_code == 403
        assert self.post(client=ApiClient(self.cast.eve)).status_code == 404
        assert not Quarantine.objects.exists()

    def test_the_list_does_not_query_per_row(self):
        self.post()
        # 1: token with user  2: quarantines with case, service and people
        with self.assertNumQueries(2):
            self.client.get(PATH)


class QuarantineCommandTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        build = make_build(cls.cast.service)
        write(build, read(build, case("red", Outcome.FAILED)))
        cls.red = Case.objects.get()

    def run_command(self, *arguments):
        out = io.StringIO()
        call_command("quarantine", str(self.red.pk), "--user", "ben", *arguments, stdout=out)
        return out.getvalue()

    def test_quarantine_and_lift(self):
        assert self.run_command("--days", "7", "--reason", "see #12").startswith(
            "c::red is quarantined until"
        )
        assert Quarantine.objects.get().in_force
        assert self.run_command("--lift") == "c::red is not quarantined any more.\n"
        with pytest.raises(CommandError, match="is not quarantined"):
            self.run_command("--lift")

    def test_days_are_asked_for(self):
        for days_given in ([], ["--days", "0"], ["--days", "91"]):
            with pytest.raises(CommandError, match="from 1 to 90"):
                self.run_command("--reason", "x", *days_given)


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_quarantines():
    cast = Cast()
    build = make_build(cast.service)
    write(build, read(build, case("red", Outcome.FAILED)))

    def quarantine(test: Case) -> str:
        try:
            quarantine_case(case=test, user=cast.ben, reason="x", until=timezone.now() + days(1))
        except DomainError:
            return "refused"
        return "made"

    copies = [Case.objects.select_related("service").get() for _ in range(2)]
    answers = all_at_once(*(partial(quarantine, copy) for copy in copies))
    assert sorted(answers) == ["made", "refused"]
    assert Quarantine.objects.count() == 1
