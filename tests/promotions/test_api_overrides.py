"""Overrides at the REST API."""

from django.test import TestCase

from apps.promotions.models import Override
from tests.clients import ApiClient
from tests.factories import make_override
from tests.promotions.cast import Cast

LIST = "/api/v1/overrides/"


class OverrideApiTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.cast = Cast()
        cls.cast.policy(
            cls.cast.staging, "approved", {"rule": "override", "parameters": {"second_person": True}}
        )
        cls.promotion = cls.cast.request()

    def give(self, user=None, *scopes, **body):
        wish = {"promotion": self.promotion.pk, "justification": "The site is down.", "minutes": 60, **body}
        return ApiClient(user or self.cast.olga, *scopes).post(LIST, wish)

    def assert_problem(self, response, status: int, *words: str) -> None:
        assert response.status_code == status, response.content
        for word in words:
            assert word in response.json()["detail"]

    def shown(self):
        return ApiClient(self.cast.vic).get(f"/api/v1/promotions/{self.promotion.pk}/").json()

    def test_one_operator_gives_it_another_seconds_and_it_is_shown(self) -> None:
        response = self.give(rules=["approved"])
        assert response.status_code == 201, response.content
        found = response.json()
        assert (found["by"], found["rules"], found["seconded_by"]) == ("olga", ["approved"], None)
        assert response["Location"].endswith(f"{LIST}{found['id']}/")
        assert self.give(rules=["approved"]).status_code == 200
        assert self.shown()["verdict"] == "waiting_human"
        path = f"{LIST}{found['id']}/second/"
        self.assert_problem(ApiClient(self.cast.olga).post(path), 403, "who gave it")
        self.assert_problem(ApiClient(self.cast.ben).post(path), 403, "operator")
        seconded = ApiClient(self.cast.omar, "operate").post(path)
        assert seconded.status_code == 200, seconded.content
        assert seconded.json()["seconded_by"] == "omar"
        promotion = self.shown()
        assert promotion["verdict"] == "overridden"
        assert [each["verdict"] for each in promotion["findings"]] == ["overridden", "overridden"]
        assert promotion["overrides"][0]["justification"] == "The site is down."
        explanation = (
            ApiClient(self.cast.vic).get(f"/api/v1/promotions/{self.promotion.pk}/explanation/").json()
        )
        assert [each["rule"] for each in explanation["met"]] == ["approved", "override"]

    def test_it_is_withdrawn_and_stays_visible(self) -> None:
        override = make_override(self.promotion, by=self.cast.olga)
        path = f"{LIST}{override.pk}/withdraw/"
        self.assert_problem(ApiClient(self.cast.omar, "approve").post(path), 403, "operate")
        assert ApiClient(self.cast.omar).post(path, {"comment": "Up again."}).status_code == 200
        self.assert_problem(ApiClient(self.cast.omar).post(path), 409, "withdrawn already")
        assert self.shown()["overrides"][0]["withdrawn_by"] == "omar"

    def test_what_is_wrong_is_said(self) -> None:
        self.assert_problem(self.give(promotion=10**9), 404, "no promotion")
        self.assert_problem(self.give(self.cast.eve), 404, "no promotion")
        self.assert_problem(self.give(self.cast.ann), 403, "must be operator")
        self.assert_problem(self.give(self.cast.olga, "ci", "approve"), 403, "operate")
        self.assert_problem(self.give(rules=["nope"]), 400, "nope cannot be overridden")
        self.assert_problem(self.give(minutes=10**6), 400, "counts for 1 to 240 minutes")
        self.assert_problem(self.give(minutes=0), 400)
        self.assert_problem(self.give(justification=""), 400)
        assert not Override.objects.exists()

    def test_the_list_does_not_query_per_row(self) -> None:
        first = make_override(self.promotion)
        second = make_override(self.cast.request(environment=self.cast.production))
        client = ApiClient(self.cast.vic)
        # 1: token with user  2: overrides with all that is shown
        with self.assertNumQueries(2):
            rows = client.get(LIST).json()["results"]
        assert [row["id"] for row in rows] == [second.pk, first.pk]
        (row,) = client.get(LIST, {"promotion": self.promotion.pk}).json()["results"]
        assert row["id"] == first.pk
        assert client.get(LIST, {"environment": "nowhere"}).json()["results"] == []
