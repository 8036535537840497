"""Promotions in the admin: read, approve, reject, cancel."""

from django.test import TestCase
from django.urls import reverse

from apps.access.models import User
from apps.promotions.models import Approval, Promotion
from apps.promotions.services import request_promotion
from tests.clients import signed_in
from tests.factories import (
    make_environment,
    make_member,
    make_policy,
    make_release,
    make_report,
    make_service,
    make_user,
)

LIST = reverse("admin:promotions_promotion_changelist")


class PromotionAdminTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.environment = make_environment(cls.service, "production")
        make_policy(cls.environment, [{"rule": "approved", "parameters": {}}])
        cls.requester = make_member(cls.service, "developer", username="requester", is_staff=True)
        cls.approver = make_member(cls.service, "approver", username="approver", is_staff=True)
        release = make_release(cls.service)
        make_report(release.build)
        cls.promotion = request_promotion(
            release=release, environment=cls.environment, requested_by=cls.requester
        )
        cls.page = reverse("admin:promotions_promotion_change", args=[cls.promotion.pk])

    def press(self, user: User, verb: str, comment: str = "", page: str = ""):
        """Submit the dialog behind a button, as htmx does, and follow where it leads."""
        client = signed_in(user)
        address = (page or self.page).replace("change/", f"{verb}/")
        response = client.post(address, {"_form_submitted": "on", "comment": comment})
        if response.status_code == 200:
            assert response["HX-Redirect"] == (page or self.page)
            response = client.get(response["HX-Redirect"], follow=True)
        return response

    def choose(self, user: User, action: str):
        data = {"action": action, "_selected_action": [self.promotion.pk]}
        return signed_in(user).post(LIST, data, follow=True)

    def test_its_page_says_what_the_gate_says_first(self) -> None:
        response = signed_in(self.approver).get(self.page)
        self.assertContains(response, "waiting for a person")
        self.assertContains(response, "It needs 1 more approval")
        assert response.content.index(b"It needs 1 more approval") < response.content.index(b"Requested by")

    def test_an_approver_approves_with_a_comment(self) -> None:
        response = self.press(self.approver, "approve", "Looks good.")
        self.assertContains(response, "Approved: ")
        approval = Approval.objects.get()
        assert (approval.user, approval.verdict, approval.comment) == (
            self.approver,
            "approved",
            "Looks good.",
        )
        self.promotion.refresh_from_db()
        assert self.promotion.decision.verdict == "pass"

    def test_an_approver_rejects(self) -> None:
        self.assertContains(self.press(self.approver, "reject", "Not on a Friday."), "Not on a Friday.")
        self.promotion.refresh_from_db()
        assert self.promotion.status == Promotion.Status.REJECTED

    def test_an_approver_withdraws(self) -> None:
        assert self.press(self.approver, "withdraw").status_code == 403
        self.press(self.approver, "approve")
        self.assertContains(self.press(self.approver, "withdraw", "Wait."), "Withdrawn: ")
        assert Approval.objects.get().withdrawn_at is not None
        assert self.press(self.requester, "withdraw").status_code == 403

    def test_the_requester_cancels(self) -> None:
        self.assertContains(self.press(self.requester, "cancel"), "Cancelled: ")
        self.promotion.refresh_from_db()
        assert self.promotion.status == Promotion.Status.CANCELLED

    def test_buttons_are_for_those_who_may_press_them(self) -> None:
        superuser = make_user("root", is_superuser=True, is_staff=True)
        cases = {self.approver: "approve reject", self.requester: "cancel", superuser: "cancel"}
        for user, expected in cases.items():
            response = signed_in(user).get(self.page)
            shown = [
                verb
                for verb in ("approve", "reject", "cancel")
                if self.page.replace("change/", f"{verb}/") in response.content.decode()
            ]
            with self.subTest(user.username):
                assert " ".join(shown) == expected

    def test_a_button_that_is_not_theirs_is_refused(self) -> None:
        for user, verb in (
            (self.requester, "approve"),
            (self.approver, "cancel"),
            (self.requester, "reject"),
        ):
            with self.subTest(user=user.username, verb=verb):
                assert self.press(user, verb).status_code == 403
        assert not Approval.objects.exists()

    def test_the_page_says_what_holds_it_up(self) -> None:
        Promotion.objects.update(decision=None)
        self.assertContains(signed_in(self.approver).get(self.page), "It has not been judged yet")

    def test_a_link_changes_nothing(self) -> None:
        response = signed_in(self.approver).get(self.page.replace("change/", "approve/"))
        self.assertContains(response, "Approve this promotion?")
        assert not Approval.objects.exists()

    def test_a_forged_form_is_refused(self) -> None:
        client = signed_in(self.approver)
        client.handler.enforce_csrf_checks = True
        response = client.post(self.page.replace("change/", "approve/"), {"_form_submitted": "on"})
        assert response.status_code == 403
        assert not Approval.objects.exists()

    def test_several_are_answered_from_the_list(self) -> None:
        self.assertContains(self.choose(self.approver, "approve_selected"), "Approved: ")
        assert Approval.objects.get().user == self.approver

    def test_a_refusal_is_a_message(self) -> None:
        response = self.choose(self.requester, "approve_selected")
        self.assertContains(response, "must be approver of web")
        self.press(self.requester, "cancel")
        response = self.choose(self.approver, "reject_selected")
        self.assertContains(response, "no longer waits at its gate")
        assert not Approval.objects.exists()

    def test_staff_of_other_services_find_nothing_to_answer(self) -> None:
        other = make_member(make_service("other"), "approver", is_staff=True)
        self.assertNotContains(self.choose(other, "approve_selected"), "Approved: ")
        assert self.press(other, "approve").status_code == 403
        assert not Approval.objects.exists()
