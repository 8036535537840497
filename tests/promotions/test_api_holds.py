"""Pins and vetoes at the REST API."""

from datetime import timedelta

from django.test import TestCase
from django.utils import timezone

from apps.promotions.models import Pin, Veto
from tests.clients import ApiClient
from tests.factories import make_deployment, make_occupancy, make_pin, make_release, make_veto
from tests.promotions.cast import Cast

PINS, VETOES = "/api/v1/pins/", "/api/v1/vetoes/"


class HoldApiCase(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.cast = Cast()
        cls.release = cls.cast.release()

    def assert_problem(self, response, status: int, *words: str) -> None:
        assert response.status_code == status, response.content
        for word in words:
            assert word in response.json()["detail"]


class PinApiTests(HoldApiCase):
    def pin(self, user=None, *scopes, **body):
        wish = {"service": "shop", "environment": "staging", "reason": "Stay.", **body}
        return ApiClient(user or self.cast.olga, *scopes).post(PINS, wish)

    def test_an_operator_pins_what_runs_and_lifts_it(self) -> None:
        make_occupancy(make_deployment(self.cast.staging, self.release))
        response = self.pin()
        assert response.status_code == 201, response.content
        found = response.json()
        assert (found["service"], found["environment"], found["by"]) == ("shop", "staging", "olga")
        assert found["release"]["id"] == self.release.pk
        assert response["Location"].endswith(f"{PINS}{found['id']}/")
        assert self.pin().status_code == 200
        lift = f"{PINS}{found['id']}/lift/"
        lifted = ApiClient(self.cast.omar).post(lift, {"comment": "Done."})
        assert lifted.status_code == 200
        assert lifted.json()["lifted_by"] == "omar"
        self.assert_problem(ApiClient(self.cast.omar).post(lift), 409, "no longer")

    def test_another_release_and_an_end_may_be_named(self) -> None:
        until = (timezone.now() + timedelta(hours=1)).isoformat()
        assert self.pin(release=self.release.pk, expires_at=until).status_code == 201
        assert Pin.objects.get().expires_at.isoformat() == until

    def test_what_is_wrong_is_said(self) -> None:
        self.assert_problem(self.pin(), 409, "Nothing runs in staging")
        self.assert_problem(self.pin(service="shp"), 404, "no service 'shp'")
        self.assert_problem(self.pin(environment="prod"), 404, "'prod'", "staging, production")
        self.assert_problem(self.pin(release=make_release().pk), 404, "no release")
        self.assert_problem(self.pin(self.cast.ben, release=self.release.pk), 403, "must be operator")
        self.assert_problem(self.pin(self.cast.eve), 404, "no service 'shop'")
        self.assert_problem(self.pin(self.cast.olga, "ci", "approve"), 403, "operate")
        self.assert_problem(self.pin(release=self.release.pk, reason=" "), 400)
        assert not Pin.objects.exists()

    def test_filters(self) -> None:
        now = timezone.now()
        old = make_pin(self.cast.staging, self.release, lifted_at=now)
        expired = make_pin(
            self.cast.staging,
            self.release,
            created_at=now - timedelta(hours=2),
            expires_at=now - timedelta(hours=1),
        )
        pin = make_pin(self.cast.production, self.release)
        client = ApiClient(self.cast.vic)

        def found(**query):
            return [row["id"] for row in client.get(PINS, query).json()["results"]]

        assert found() == [pin.pk, expired.pk, old.pk]
        assert found(stands="true") == [pin.pk]
        assert found(stands="false", environment="staging") == [expired.pk, old.pk]
        assert found(release=self.release.pk + 1) == []

    def test_the_list_does_not_query_per_row(self) -> None:
        make_pin(self.cast.staging, self.release)
        make_pin(self.cast.production, self.release)
        client = ApiClient(self.cast.vic)
        # 1: token with user  2: pins with all that is shown
        with self.assertNumQueries(2) as queries:
            client.get(PINS)
        assert "manifest" not in queries[1]["sql"]


class VetoApiTests(HoldApiCase):
    def veto(self, user=None, *scopes, **body):
        wish = {"release": self.release.pk, "reason": "It loses orders.", **body}
        return ApiClient(user or self.cast.ben, *scopes).post(VETOES, wish)

    def test_an_approver_vetoes_and_an_operator_lifts(self) -> None:
        response = self.veto(self.cast.ben, "approve", environment="production")
        assert response.status_code == 201, response.content
        found = response.json()
        assert (found["environment"], found["by"], found["lifted_at"]) == ("production", "ben", None)
        assert self.veto(environment="production").status_code == 200
        everywhere = self.veto()
        assert (everywhere.status_code, everywhere.json()["environment"]) == (201, None)
        lifted = ApiClient(self.cast.olga, "operate").post(f"{VETOES}{found['id']}/lift/")
        assert lifted.status_code == 200, lifted.content
        assert lifted.json()["lifted_by"] == "olga"
        assert Veto.objects.standing().get().environment is None

    def test_what_is_wrong_is_said(self) -> None:
        self.assert_problem(self.veto(environment="prod"), 404, "'prod'")
        self.assert_problem(self.veto(release=10**9), 404, "no release")
        self.assert_problem(self.veto(self.cast.ann), 403, "approver or operator")
        self.assert_problem(self.veto(self.cast.eve), 404, "no release")
        self.assert_problem(self.veto(self.cast.ben, "ci"), 403, "approve or operate")
        assert self.veto(reason="").status_code == 400
        assert not Veto.objects.exists()

    def test_filters(self) -> None:
        veto = make_veto(self.release)
        here = make_veto(self.release, self.cast.production)
        other = make_veto(self.cast.release(), self.cast.staging)
        client = ApiClient(self.cast.vic)

        def found(**query):
            return [row["id"] for row in client.get(VETOES, query).json()["results"]]

        assert found() == [other.pk, here.pk, veto.pk]
        assert found(environment="production") == [here.pk, veto.pk]
        assert found(environment="staging", release=self.release.pk) == [veto.pk]
        assert found(stands="false") == []

    def test_the_list_does_not_query_per_row(self) -> None:
        make_veto(self.release)
        make_veto(self.release, self.cast.production)
        client = ApiClient(self.cast.vic)
        # 1: token with user  2: vetoes with all that is shown
        with self.assertNumQueries(2):
            client.get(VETOES)
