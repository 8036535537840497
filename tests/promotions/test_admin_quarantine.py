"""Quarantines in the admin: added with a form that says what is wrong, ended with a button."""

from datetime import timedelta

from django.test import TestCase
from django.urls import reverse
from django.utils import timezone

from apps.builds.models import Quarantine
from apps.builds.models import TestCase as Case
from apps.builds.parsers.case import Outcome
from tests.builds.test_store import case, read, write
from tests.clients import signed_in
from tests.factories import make_build, make_member, make_service

ADD = reverse("admin:builds_quarantine_add")


class QuarantineAdminTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        build = make_build(cls.service)
        write(build, read(build, case("test_total", Outcome.FAILED)))
        cls.case = Case.objects.get()
        cls.ben = make_member(cls.service, "approver", username="ben", is_staff=True)

    def setUp(self) -> None:
        self.client = signed_in(self.ben)

    def form(self, days: float = 7, **fields: str) -> dict[str, object]:
        until = timezone.now() + timedelta(days=days)
        words = {"case": self.case.pk, "reason": "see #12"}
        return {**words, "until_0": f"{until:%Y-%m-%d}", "until_1": f"{until:%H:%M:%S}", **fields}

    def test_an_approver_quarantines_a_test_and_lifts_it(self) -> None:
        self.client.post(ADD, self.form())
        quarantine = Quarantine.objects.get()
        assert (quarantine.by, quarantine.reason, quarantine.in_force) == (self.ben, "see #12", True)
        lift = reverse("admin:builds_quarantine_lift", args=[quarantine.pk])
        self.client.post(lift, {"_form_submitted": "on", "comment": "mended"})
        quarantine.refresh_from_db()
        assert quarantine.lifted_by == self.ben

    def test_what_is_wrong_is_said_beside_the_field(self) -> None:
        answer = self.client.post(ADD, self.form(days=91))
        self.assertContains(answer, "A quarantine ends within 90 days, by")
        # And what was typed is still there.
        self.assertContains(answer, "see #12")
        self.assertContains(self.client.post(ADD, self.form(days=-1)), "A quarantine ends within 90 days")
        answer = self.client.post(ADD, self.form(reason="x" * 2001))
        self.assertContains(answer, "Say why, in at most 2,000 characters.")
        assert not Quarantine.objects.exists()

    def test_a_second_one_is_refused_by_a_message(self) -> None:
        for reason in ("see #12", "see #13"):
            answer = self.client.post(ADD, self.form(reason=reason), follow=True)
        self.assertContains(answer, "quarantined already: by ben until")
        assert Quarantine.objects.count() == 1

    def test_only_those_who_may_are_offered_it(self) -> None:
        states = reverse("admin:builds_casestate_changelist")
        self.assertContains(self.client.get(states), f"{ADD}?case={self.case.pk}")
        self.assertContains(self.client.get(f"{ADD}?case={self.case.pk}"), "test_total")
        self.client = signed_in(make_member(self.service, "developer", is_staff=True))
        self.assertNotContains(self.client.get(states), ADD)
        assert self.client.get(ADD).status_code == 403
        assert self.client.post(ADD, self.form()).status_code == 403

    def test_approving_elsewhere_is_not_enough(self) -> None:
        user = make_member(make_service("api"), "approver", is_staff=True)
        user.memberships.create(service=self.service, role="viewer")
        self.client = signed_in(user)
        answer = self.client.post(ADD, self.form(), follow=True)
        self.assertContains(answer, "must be approver or operator of web for this")
        assert not Quarantine.objects.exists()
