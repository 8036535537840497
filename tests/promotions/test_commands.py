import io
import threading
import time

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import TestCase

from apps.deployments.models import Deployment
from apps.promotions.models import Pin, Promotion, Veto
from apps.promotions.services import cancel_promotion, start_promotion
from tests.factories import make_deployment, make_report, make_result
from tests.promotions.cast import Cast


def run(*arguments):
    """What a command prints, and what it exits with."""
    out = io.StringIO()
    code = 0
    try:
        call_command(*[str(each) for each in arguments], stdout=out)
    except SystemExit as end:
        code = end.code
    return out.getvalue(), code


class PromoteTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.release = cls.cast.release()

    def promote(self, release=None, environment="staging", *more, service="shop", user="ann"):
        release = release or self.release.version
        return run("promote", release, environment, "--service", service, "--user", user, *more)

    def test_an_open_gate_exits_0(self):
        out, code = self.promote()
        assert code == 0
        assert f"{self.release.version} → shop/staging is pending" in out
        assert "✓ built_as_defined" in out
        assert "manage.py reconcile starts it" in out

    def test_version_digest_its_beginning_and_id_name_a_release(self):
        digest = self.release.digest
        for name in (self.release.version, digest, digest[:8], self.release.pk):
            self.promote(name)
        assert Promotion.objects.get().release == self.release

    def test_each_verdict_has_its_exit_code(self):
        policies = {
            10: ["verified_upstream"],
            11: ["approved"],
            13: [{"rule": "required_reports", "parameters": {"groups": ["nope"]}}],
        }
        for expected, rules in policies.items():
            self.cast.policy(self.cast.production, *rules)
            assert self.promote(None, "production")[1] == expected

    def test_waiting_is_no_use_where_something_has_to_change_first(self):
        self.cast.policy(self.cast.production, "verified_upstream")
        began = time.monotonic()
        assert self.promote(None, "production", "--wait", "--timeout", "600")[1] == 10
        assert time.monotonic() - began < 300

    def test_waiting_ends_with_the_verdict_when_time_is_up(self):
        self.cast.policy(self.cast.production, "approved")
        out, code = self.promote(None, "production", "--wait", "--timeout", "0.2", "--poll", "0.05")
        assert code == 11
        assert "[ben, cem, dan]" in out

    def test_it_says_what_a_passing_promotion_waits_for(self):
        make_deployment(self.cast.staging, status="running")
        out, code = self.promote()
        assert code == 0
        assert "it waits because deployment d-" in out

    def test_it_says_why_a_deployment_is_held_up(self):
        self.promote()
        promotion = Promotion.objects.get()
        start_promotion(promotion=promotion)
        Deployment.objects.update(error_message="the group is busy with d-7")
        assert "The deployment waits: the group is busy with d-7" in self.promote()[0]

    def test_unknown_names_are_said_with_the_known_ones(self):
        cases = [
            ({"release": "9.9"}, f"no release '9.9'. Newest: {self.release.version}"),
            ({"environment": "prod"}, "no environment 'prod'. Known: staging, production"),
            ({"service": "shp"}, "no service 'shp'. Known: shop"),
            ({"user": "nobody"}, "no active user 'nobody'"),
            ({"user": "vic"}, "vic must be developer or operator of shop"),
            ({"user": "eve"}, "no service 'shop' that eve can see"),
        ]
        for change, message in cases:
            with pytest.raises(CommandError) as caught:
                self.promote(**change)
            assert message in str(caught.value)
            assert caught.value.returncode == 1


class ApproveAndDecideTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.cast.policy(cls.cast.staging, "max_failures", "approved")
        cls.promotion = cls.cast.request()

    def test_an_approval_shows_the_new_verdict(self):
        out, code = run("approve", self.promotion.pk, "--user", "ben", "--comment", "go")
        assert code == 0
        assert "ben approved it." in out
        assert "✓ approved" in out
        assert self.promotion.approvals.get().comment == "go"

    def test_who_may_not_is_told_why(self):
        with pytest.raises(CommandError, match="ann must be approver of shop"):
            run("approve", self.promotion.pk, "--user", "ann")
        with pytest.raises(CommandError, match="There is no promotion 0"):
            run("approve", 0, "--user", "ben")

    def test_approve_can_be_taken_back(self):
        run("approve", self.promotion.pk, "--user", "ben")
        out, code = run("approve", self.promotion.pk, "--user", "ben", "--withdraw", "--comment", "too early")
        assert code == 0
        assert "ben no longer approves it." in out
        assert "… approved" in out
        with pytest.raises(CommandError, match="ben has not approved"):
            run("approve", self.promotion.pk, "--user", "ben", "--withdraw")

    def test_reject_ends_it_and_says_why(self):
        with pytest.raises(CommandError, match="ann must be approver of shop"):
            run("reject", self.promotion.pk, "--user", "ann")
        out, code = run("reject", self.promotion.pk, "--user", "ben", "--comment", "It loses orders")
        assert code == 0
        assert "is rejected: Rejected by ben: It loses orders" in out
        with pytest.raises(CommandError, match="is rejected"):
            run("cancel", self.promotion.pk, "--user", "ann")

    def test_cancel_takes_back_what_was_asked_for(self):
        with pytest.raises(CommandError, match="ben must be"):
            run("cancel", self.promotion.pk, "--user", "ben")
        out, code = run("cancel", self.promotion.pk, "--user", "ann", "--reason", "wrong commit")
        assert code == 0
        assert "is cancelled: Cancelled by ann: wrong commit" in out

    def test_decide_exits_by_the_verdict_and_prints_each_finding(self):
        out, code = run("decide", self.promotion.pk)
        assert code == 11
        assert "✓ max_failures" in out
        assert "… approved" in out

    def test_decide_names_the_failing_test(self):
        report = make_report(self.promotion.release.build, name="e2e", failed=1)
        make_result(report, name="test_totals")
        out, code = run("decide", self.promotion.pk)
        assert code == 10
        assert "✗ max_failures  1 failure and 0 errors, and at most 0 may be: " in out
        assert "tests.test_example::test_totals" in out

    def test_decide_shows_the_last_decision_of_what_is_over(self):
        cancel_promotion(promotion=self.promotion, user=self.cast.ann)
        out, code = run("decide", self.promotion.pk)
        assert "is cancelled: Cancelled by ann." in out
        assert code == 11


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("end", "expected"), [("succeeded", 0), ("failed", 1)])
def test_promote_waits_until_the_end(end, expected):
    cast = Cast()
    release = cast.release()

    def reconcile():
        # What another process does meanwhile.
        try:
            while not (promotion := Promotion.objects.first()):
                time.sleep(0.02)
            start_promotion(promotion=promotion)
            time.sleep(0.1)
            Promotion.objects.update(status=end, reason="as the test wants")
        finally:
            connection.close()

    thread = threading.Thread(target=reconcile)
    thread.start()
    command = ("promote", release.version, "staging", "--service", "shop", "--user", "ann", "--wait")
    out, code = run(*command, "--poll", "0.03", "--timeout", "20")
    thread.join(20)
    assert code == expected
    assert f"is {end}: as the test wants" in out


class HoldCommandTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.release = cls.cast.release()

    def pin(self, *more, user="olga"):
        return run("pin", "shop", "staging", "--user", user, *more)[0]

    def veto(self, *more, user="ben"):
        return run("veto", "shop", self.release.version, "--user", user, *more)[0]

    def test_an_environment_is_held_and_let_go(self):
        hold = ("--release", self.release.version, "--reason", "Stay.")
        for _ in range(2):
            assert self.pin(*hold) == (
                f"shop/staging is held at {self.release.version} until somebody lifts it.\n"
            )
        assert "no longer" in self.pin("--lift", user="omar")
        with pytest.raises(CommandError, match="Nobody holds shop/staging"):
            self.pin("--lift")
        assert " until 20" in self.pin(*hold, "--hours", "2")
        assert Pin.objects.count() == 2

    def test_a_release_is_vetoed_and_let_go(self):
        assert "may not go to any environment" in self.veto("--reason", "No.")
        assert "may not go to staging" in self.veto("--reason", "No.", "--environment", "staging")
        assert "kept from staging no longer" in self.veto("--lift", "--environment", "staging", user="olga")
        with pytest.raises(CommandError, match=r"no veto that keeps .* from staging"):
            self.veto("--lift", "--environment", "staging")
        assert Veto.objects.standing().get().environment is None

    def test_what_is_wrong_is_one_line(self):
        for call, words in (
            (lambda: self.pin("--reason", "Stay."), "Nothing runs in staging"),
            (self.pin, "A pin needs a reason"),
            (lambda: self.pin("--reason", "Stay.", "--hours", "1e99"), "no time from now"),
            (lambda: self.pin("--reason", "Stay.", user="ben"), "ben must be operator of shop"),
            (lambda: self.veto("--reason", "No.", user="ann"), "ann must be approver or operator of shop"),
            (lambda: self.veto("--environment", "prod"), "no environment 'prod'"),
        ):
            with pytest.raises(CommandError, match=words):
                call()


class OverrideCommandTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        second = {"rule": "override", "parameters": {"second_person": True}}
        cls.cast.policy(cls.cast.staging, "approved", second)
        cls.promotion = cls.cast.request()

    def override(self, user, *more):
        return run("override", self.promotion.pk, "--user", user, *more)[0]

    def test_two_operators_let_it_pass_and_one_ends_it(self):
        out = self.override("olga", "--justification", "The site is down.", "--rule", "approved")
        assert "by olga counts until " in out
        assert "… override" in out
        out = self.override("omar", "--second")
        assert "omar seconded override" in out
        assert "! approved  It needs 1 more approval" in out
        text, code = run("why", "shop", "staging", "--release", self.promotion.release.version)
        assert code == 0
        assert "Overridden            approved: It needs 1 more approval" in text
        assert "Overridden by olga and omar until" in text
        assert "omar withdrew override" in self.override("omar", "--withdraw")
        assert run("decide", self.promotion.pk)[1] == 11

    def test_what_is_wrong_is_one_line(self):
        for user, more, words in (
            ("ben", ("--justification", "x"), "ben must be operator of shop"),
            ("olga", (), "needs a justification"),
            ("olga", ("--justification", "x", "--rule", "nope"), "nope cannot be overridden"),
            ("olga", ("--second",), "has no override for which that could be done"),
        ):
            with pytest.raises(CommandError, match=words):
                self.override(user, *more)
