"""GET /api/v1/decisions/."""

from django.test import TestCase

from tests.clients import ApiClient
from tests.factories import (
    make_decision,
    make_environment,
    make_member,
    make_promotion,
    make_release,
    make_service,
    make_user,
)


class DecisionApiTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.staging = make_environment(cls.service, "staging")
        cls.production = make_environment(cls.service, "production")
        cls.release, cls.other = make_release(cls.service), make_release(cls.service)
        cls.first = make_decision(cls.staging, cls.release, "waiting_evidence")
        cls.second = make_decision(cls.staging, cls.release, "pass", facts={"release": {"id": 1}})
        cls.elsewhere = make_decision(cls.production, cls.release, "blocked")
        cls.of_other = make_decision(cls.staging, cls.other)
        cls.promotion = make_promotion(cls.staging, cls.release, decision=cls.second)
        cls.viewer = make_member(cls.service, "viewer")

    def setUp(self) -> None:
        self.client = ApiClient(self.viewer)

    def found(self, **query: object) -> list[int]:
        return [row["id"] for row in self.client.get("/api/v1/decisions/", query).json()["results"]]

    def test_the_list_tells_what_one_tells_but_for_the_evidence(self) -> None:
        # By a version that had no earliest times.
        old = {
            "rule": "approved",
            "verdict": "blocked",
            "sentence": "No.",
            "evidence": {"count": 1},
            "who": "",
        }
        decision = make_decision(self.production, self.other, "blocked", findings=[old, old | {"who": "you"}])
        (listed,) = self.client.get(
            "/api/v1/decisions/", {"release": self.other.pk, "environment": "production"}
        ).json()["results"]
        brief = {"rule": "approved", "verdict": "blocked", "sentence": "No.", "earliest": None}
        assert listed["findings"] == [brief | {"who": ""}, brief | {"who": "you"}]
        one = self.client.get(f"/api/v1/decisions/{decision.pk}/").json()
        assert [finding.pop("evidence") for finding in one["findings"]] == [{"count": 1}] * 2
        assert listed == {name: one[name] for name in listed}

    def test_filters(self) -> None:
        assert self.found(promotion=self.promotion.pk) == [self.second.pk, self.first.pk]
        assert self.found(environment="production") == [self.elsewhere.pk]
        assert self.found(release=self.other.pk) == [self.of_other.pk]
        assert len(self.found(service="web")) == 4

    def test_one_shows_its_facts_and_findings(self) -> None:
        found = self.client.get(f"/api/v1/decisions/{self.second.pk}/").json()
        assert found["facts"] == {"release": {"id": 1}}
        assert found["findings"][0]["sentence"] == "An example."
        assert found["policy"]["version"] == 1

    def test_findings_of_before_there_were_earliest_times_have_none(self) -> None:
        told = {"verdict": "blocked", "sentence": "No.", "who": "", "evidence": {}}
        later = {**told, "rule": "b", "earliest": "2026-01-01T00:00:00Z"}
        old = make_decision(self.staging, self.release, findings=[{**told, "rule": "a"}, later])
        promotion = make_promotion(self.production, self.release, decision=old)
        expected = [{**told, "rule": "a", "earliest": None}, later]
        assert self.client.get(f"/api/v1/decisions/{old.pk}/").json()["findings"] == expected
        assert self.client.get(f"/api/v1/promotions/{promotion.pk}/").json()["findings"] == expected

    def test_a_stranger_sees_nothing(self) -> None:
        client = ApiClient(make_user())
        assert client.get("/api/v1/decisions/").json()["results"] == []
        assert client.get(f"/api/v1/decisions/{self.first.pk}/").status_code == 404

    def test_the_list_does_not_query_per_row(self) -> None:
        # 1: token with user  2: decisions with environment, service, release, policy, without facts
        with self.assertNumQueries(2) as queries:
            self.client.get("/api/v1/decisions/")
        assert '"facts"' not in queries[1]["sql"]
        assert '"manifest"' not in queries[1]["sql"]
