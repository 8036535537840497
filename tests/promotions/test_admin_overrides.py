"""Overrides in the admin: given on the promotion's page, seconded and withdrawn on their own."""

from django.test import TestCase
from django.urls import reverse

from apps.promotions.models import Override
from tests.clients import signed_in
from tests.promotions.cast import Cast


class OverrideAdminTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.cast = Cast()
        cls.cast.policy(
            cls.cast.staging, "approved", {"rule": "override", "parameters": {"second_person": True}}
        )
        cls.promotion = cls.cast.request()
        for user in (cls.cast.ann, cls.cast.ben, cls.cast.olga, cls.cast.omar):
            user.is_staff = True
            user.save()

    def press(self, user, what, row, **fields):
        """Submit the dialog behind a button, as htmx does, and follow where it leads."""
        client = signed_in(user)
        address = reverse(f"admin:promotions_{row._meta.model_name}_{what}", args=[row.pk])
        response = client.post(address, {"_form_submitted": "on", "comment": "", **fields})
        return client.get(response["HX-Redirect"]) if "HX-Redirect" in response else response

    def give(self, user=None, **fields):
        words = {"justification": "The site is down.", "minutes": 60, "rules": ["approved"], **fields}
        return self.press(user or self.cast.olga, "override", self.promotion, **words)

    def test_two_operators_let_it_pass(self) -> None:
        page = self.give()
        self.assertContains(page, "The site is down.")
        self.assertContains(page, "waits for a second operator")
        override = Override.objects.get()
        assert (override.by, override.rules) == (self.cast.olga, ["approved"])
        assert self.press(self.cast.olga, "second", override).status_code == 403
        assert self.press(self.cast.ben, "second", override).status_code == 403
        self.assertContains(self.press(self.cast.omar, "second", override), "Seconded.")
        self.promotion.refresh_from_db()
        assert self.promotion.decision.verdict == "overridden"
        page = signed_in(self.cast.ann).get(
            reverse("admin:promotions_promotion_change", args=[self.promotion.pk])
        )
        self.assertContains(page, "Overridden by olga and omar until ")
        self.assertContains(page, "It needs 1 more approval")
        self.assertContains(self.press(self.cast.omar, "withdraw", override, comment="Up."), "Withdrawn.")
        assert self.press(self.cast.omar, "withdraw", override).status_code == 403

    def test_it_is_seconded_on_the_promotions_page_too(self) -> None:
        assert self.press(self.cast.omar, "second", self.promotion).status_code == 403
        self.give()
        for user in (self.cast.olga, self.cast.ben):
            assert self.press(user, "second", self.promotion).status_code == 403
        self.assertContains(self.press(self.cast.omar, "second", self.promotion), "Override seconded")
        assert Override.objects.get().seconded_by == self.cast.omar
        assert self.press(self.cast.omar, "second", self.promotion).status_code == 403

    def test_a_word_is_needed_and_a_refusal_is_a_message(self) -> None:
        self.assertContains(self.give(justification=""), "This field is required")
        self.assertContains(self.give(minutes=10**6), "counts for 1 to 240 minutes")
        assert not Override.objects.exists()

    def test_the_button_is_for_operators_while_it_waits(self) -> None:
        path = reverse("admin:promotions_promotion_override", args=[self.promotion.pk])
        page = reverse("admin:promotions_promotion_change", args=[self.promotion.pk])
        self.assertContains(signed_in(self.cast.olga).get(page), path)
        for user in (self.cast.ann, self.cast.ben):
            self.assertNotContains(signed_in(user).get(page), path)
            assert self.give(user).status_code == 403
        type(self.promotion).objects.update(status="cancelled")
        assert self.give().status_code == 403
        assert not Override.objects.exists()
