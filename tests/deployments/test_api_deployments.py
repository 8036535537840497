"""GET /api/v1/deployments/."""

from django.test import TestCase

from apps.deployments.models import Deployment
from tests.clients import ApiClient
from tests.factories import (
    make_deployment,
    make_environment,
    make_member,
    make_promotion,
    make_service,
    make_target,
    make_user,
)


class DeploymentApiTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.staging = make_environment(cls.service, "staging")
        cls.production = make_environment(cls.service, "production")
        cls.deployment = make_deployment(cls.staging)
        make_target(cls.deployment, "staging-1", "BeforeInstall", "AfterInstall")
        make_target(cls.deployment, "staging-2", "BeforeInstall", "AfterInstall")
        cls.promotion = make_promotion(
            cls.staging, cls.deployment.release, status="succeeded", deployment=cls.deployment
        )
        cls.foreign = make_deployment(cls.production, status=Deployment.Status.RUNNING)
        Deployment.objects.filter(pk=cls.foreign.pk).update(release=None)
        cls.hidden = make_deployment()
        cls.viewer = make_member(cls.service, "viewer")

    def setUp(self) -> None:
        self.client = ApiClient(self.viewer)

    def test_one_shows_every_host_and_event(self) -> None:
        found = self.client.get(f"/api/v1/deployments/{self.deployment.pk}/").json()
        assert found["promotion"] == self.promotion.pk
        assert found["release"]["id"] == self.deployment.release_id
        assert [target["target_id"] for target in found["targets"]] == ["staging-1", "staging-2"]
        names = [event["name"] for event in found["targets"][0]["events"]]
        assert names == ["BeforeInstall", "AfterInstall"]
        assert "log_tail" in found["targets"][0]["events"][0]

    def test_a_foreign_deployment_has_neither_release_nor_promotion(self) -> None:
        found = self.client.get(f"/api/v1/deployments/{self.foreign.pk}/").json()
        assert found["release"] is None
        assert found["promotion"] is None

    def test_only_a_running_one_says_when_to_ask_again(self) -> None:
        assert "Retry-After" in self.client.get(f"/api/v1/deployments/{self.foreign.pk}/")
        assert "Retry-After" not in self.client.get(f"/api/v1/deployments/{self.deployment.pk}/")

    def test_filters(self) -> None:
        def found(**query: object) -> list[int]:
            return [row["id"] for row in self.client.get("/api/v1/deployments/", query).json()["results"]]

        assert found() == [self.foreign.pk, self.deployment.pk]
        assert found(service="web", environment="staging") == [self.deployment.pk]
        assert found(status="running") == [self.foreign.pk]
        assert found(promotion=self.promotion.pk) == [self.deployment.pk]
        assert found(release=self.deployment.release_id) == [self.deployment.pk]

    def test_a_stranger_sees_nothing(self) -> None:
        assert self.client.get(f"/api/v1/deployments/{self.hidden.pk}/").status_code == 404
        assert ApiClient(make_user()).get("/api/v1/deployments/").json()["results"] == []

    def test_the_list_does_not_query_per_row(self) -> None:
        # 1: token with user  2: deployments with environment, service, release, promotion
        # 3: their targets  4: the targets' events, without logs
        with self.assertNumQueries(4) as queries:
            self.client.get("/api/v1/deployments/")
        assert "log_tail" not in queries[3]["sql"]
