"""GET /api/v1/services/ and /api/v1/environments/."""

from django.test import TestCase

from tests.clients import ApiClient
from tests.factories import make_environment, make_member, make_service, make_user


class CatalogApiTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.staging = make_environment(cls.service, "staging", position=1)
        cls.production = make_environment(cls.service, "production", position=2, upstreams=(cls.staging,))
        cls.other = make_environment(make_service("other"), "staging")
        cls.viewer = make_member(cls.service, "viewer")

    def setUp(self) -> None:
        self.client = ApiClient(self.viewer)

    def test_a_member_sees_the_service(self) -> None:
        found = self.client.get("/api/v1/services/").json()["results"]
        assert [service["slug"] for service in found] == ["web"]
        assert self.client.get("/api/v1/services/web/").json()["codebuild_project"] == "web"

    def test_a_stranger_sees_nothing(self) -> None:
        client = ApiClient(make_user())
        assert client.get("/api/v1/services/").json()["results"] == []
        assert client.get("/api/v1/services/web/").status_code == 404
        assert client.get("/api/v1/environments/").json()["results"] == []
        assert client.get(f"/api/v1/environments/{self.staging.pk}/").status_code == 404

    def test_a_superuser_sees_all(self) -> None:
        client = ApiClient(make_user(is_superuser=True))
        assert len(client.get("/api/v1/environments/").json()["results"]) == 3

    def test_an_environment_names_its_upstreams(self) -> None:
        found = self.client.get(f"/api/v1/environments/{self.production.pk}/").json()
        assert found["upstreams"] == ["staging"]
        assert found["service"] == "web"

    def test_environments_are_filtered_by_service_and_slug(self) -> None:
        client = ApiClient(make_user(is_superuser=True))
        found = client.get("/api/v1/environments/", {"service": "web", "slug": "staging"}).json()["results"]
        assert [environment["id"] for environment in found] == [self.staging.pk]

    def test_they_cannot_be_written(self) -> None:
        for method in ("post", "put", "patch", "delete"):
            with self.subTest(method):
                response = getattr(self.client, method)(f"/api/v1/environments/{self.staging.pk}/")
                assert response.status_code == 405
                assert response["Content-Type"] == "application/problem+json"

    def test_lists_do_not_query_per_row(self) -> None:
        # 1: token with user  2: services
        with self.assertNumQueries(2):
            self.client.get("/api/v1/services/")
        # 1: token with user  2: environments with service, and in JSON their upstreams
        with self.assertNumQueries(2):
            self.client.get("/api/v1/environments/")
