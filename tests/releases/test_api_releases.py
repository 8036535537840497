"""GET /api/v1/releases/."""

from django.test import TestCase

from tests.clients import ApiClient
from tests.factories import make_member, make_release, make_service, make_user


class ReleaseApiTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.releases = [make_release(cls.service) for _ in range(3)]
        cls.foreign = make_release()
        cls.viewer = make_member(cls.service, "viewer")

    def setUp(self) -> None:
        self.client = ApiClient(self.viewer)

    def found(self, **query: object) -> list[int]:
        response = self.client.get("/api/v1/releases/", query)
        assert response.status_code == 200, response.content
        return [release["id"] for release in response.json()["results"]]

    def test_the_list_is_newest_first_and_holds_only_visible_ones(self) -> None:
        assert self.found() == [release.pk for release in reversed(self.releases)]

    def test_filters(self) -> None:
        first = self.releases[0]
        assert self.found(digest=first.digest) == [first.pk]
        assert self.found(build=first.build_id) == [first.pk]
        assert self.found(commit=first.commit) == [first.pk]
        assert self.found(service="web", version=first.version) == [first.pk]
        assert self.found(service="another") == []

    def test_one_shows_its_manifest_and_the_list_does_not(self) -> None:
        release = self.releases[0]
        found = self.client.get(f"/api/v1/releases/{release.pk}/").json()
        assert found["manifest"] == release.manifest
        assert found["build"] == {"id": release.build_id, "codebuild_id": release.build.codebuild_id}
        assert "manifest" not in self.client.get("/api/v1/releases/").json()["results"][0]

    def test_a_foreign_or_missing_one_is_not_found(self) -> None:
        for key in (self.foreign.pk, 10**30, "x"):
            with self.subTest(key):
                response = self.client.get(f"/api/v1/releases/{key}/")
                assert response.status_code == 404
                assert response["Content-Type"] == "application/problem+json"
        assert ApiClient(make_user()).get("/api/v1/releases/").json()["results"] == []

    def test_pages_follow_one_another(self) -> None:
        first = self.client.get("/api/v1/releases/", {"page_size": 2}).json()
        assert len(first["results"]) == 2
        second = self.client.get(first["next"]).json()
        assert [release["id"] for release in second["results"]] == [self.releases[0].pk]
        assert second["next"] is None

    def test_the_list_does_not_query_per_row(self) -> None:
        # 1: token with user  2: releases with service and build, without manifests
        with self.assertNumQueries(2) as queries:
            self.client.get("/api/v1/releases/")
        assert "manifest" not in queries[1]["sql"]
