"""Pins and vetoes in the admin: set with a form, lifted with a question."""

from django.test import TestCase
from django.urls import reverse

from apps.promotions.models import Pin, Veto
from tests.clients import signed_in
from tests.factories import make_deployment, make_environment, make_member, make_occupancy, make_service
from tests.promotions.cast import Cast

ADD_PIN, ADD_VETO = reverse("admin:promotions_pin_add"), reverse("admin:promotions_veto_add")


class HoldAdminTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.cast = Cast()
        cls.release = cls.cast.release()
        for user in (cls.cast.ann, cls.cast.ben, cls.cast.olga):
            user.is_staff = True
            user.save()

    def add(self, user, path, **fields):
        return signed_in(user).post(path, {"reason": "Stay.", **fields}, follow=True)

    def lift(self, user, row):
        name = f"admin:promotions_{row._meta.model_name}_lift"
        client = signed_in(user)
        response = client.post(reverse(name, args=[row.pk]), {"_form_submitted": "on", "comment": ""})
        return client.get(response["HX-Redirect"]) if response.status_code == 200 else response

    def test_an_operator_pins_what_runs_and_lifts_it(self) -> None:
        make_occupancy(make_deployment(self.cast.staging, self.release))
        response = self.add(self.cast.olga, ADD_PIN, environment=self.cast.staging.pk)
        self.assertContains(response, "staging held at")
        pin = Pin.objects.get()
        assert (pin.release, pin.by, pin.reason) == (self.release, self.cast.olga, "Stay.")
        assert self.lift(self.cast.ben, pin).status_code == 403
        self.assertContains(self.lift(self.cast.olga, pin), "Lifted.")
        pin.refresh_from_db()
        assert pin.lifted_by == self.cast.olga
        assert self.lift(self.cast.olga, pin).status_code == 403

    def test_an_approver_vetoes_and_lifts(self) -> None:
        fields = {"release": self.release.pk, "environment": self.cast.production.pk}
        self.add(self.cast.ben, ADD_VETO, **fields)
        veto = Veto.objects.get()
        assert (veto.environment, veto.by) == (self.cast.production, self.cast.ben)
        self.add(self.cast.ben, ADD_VETO, release=self.release.pk)
        assert Veto.objects.filter(environment=None).exists()
        self.assertContains(self.lift(self.cast.olga, veto), "Lifted.")

    def test_a_refusal_is_a_message(self) -> None:
        response = self.add(self.cast.olga, ADD_PIN, environment=self.cast.staging.pk)
        self.assertContains(response, "Nothing runs in staging that it could be held at")
        assert not Pin.objects.exists()

    def test_only_those_with_the_role_have_the_form_and_only_their_environments(self) -> None:
        make_environment(make_service("secret"), "vault")
        page = signed_in(self.cast.olga).get(ADD_PIN)
        self.assertContains(page, "shop staging")
        self.assertNotContains(page, "vault")
        for user, path in ((self.cast.ann, ADD_PIN), (self.cast.ben, ADD_PIN), (self.cast.ann, ADD_VETO)):
            assert signed_in(user).get(path).status_code == 403

    def test_an_operator_of_another_service_cannot_reach_it(self) -> None:
        other = make_member(make_service("other"), "operator", is_staff=True)
        response = self.add(other, ADD_PIN, environment=self.cast.staging.pk, release=self.release.pk)
        assert response.status_code == 200
        assert not Pin.objects.exists()
