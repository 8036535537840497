"""GET /api/v1/deployments/."""

from datetime import UTC, datetime

from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from apps.deployments.models import Deployment
from tests.clients import ApiClient
from tests.factories import (
    make_deployment,
    make_environment,
    make_member,
    make_promotion,
    make_record,
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

    def test_one_shows_what_the_hosts_recorded(self) -> None:
        event = self.deployment.targets.get(target_id="staging-2").events.get(name="AfterInstall")
        migrations = {
            "plan": ["shop.0002_price"],
            "applied": ["shop.0002_price"],
            "seconds": 0.5,
            "host": "staging-2",
            "result": "applied",
            "error": "",
        }
        make_record(event, seconds=3.25, migrations=migrations, tail=["-----> Done"])
        found = self.client.get(f"/api/v1/deployments/{self.deployment.pk}/").json()
        events = {each["name"]: each for each in found["targets"][1]["events"]}
        assert events["BeforeInstall"]["record"] is None
        record = events["AfterInstall"]["record"]
        assert (record["result"], record["seconds"], record["problem"]) == ("succeeded", 3.25, "")
        assert record["migrations"] == migrations
        assert record["tail"] == ["-----> Done"]
        (step,) = record["steps"]
        assert (step["name"], step["seconds"], step["result"]) == ("environment", 1.5, "succeeded")
        assert (
            "record"
            not in self.client.get("/api/v1/deployments/").json()["results"][1]["targets"][1]["events"][1]
        )

    def test_a_failed_event_names_its_cause_and_the_way_out(self) -> None:
        events = self.deployment.targets.get(target_id="staging-1").events
        events.filter(name="AfterInstall").update(status="Failed", message="No space left on device")
        found = self.client.get(f"/api/v1/deployments/{self.deployment.pk}/").json()
        before, after = found["targets"][0]["events"]
        assert before["cause"] is None
        assert after["cause"]["code"] == "no-space"
        assert "df -h" in after["cause"]["way_out"]

    def test_an_unreadable_record_says_why_and_nothing_else(self) -> None:
        event = self.deployment.targets.get(target_id="staging-1").events.get(name="AfterInstall")
        record = make_record(event)
        record.document, record.result, record.problem = {}, "unreadable", "It is not JSON."
        record.save()
        found = self.client.get(f"/api/v1/deployments/{self.deployment.pk}/").json()
        shown = found["targets"][0]["events"][1]["record"]
        assert (shown["result"], shown["problem"]) == ("unreadable", "It is not JSON.")
        assert (shown["steps"], shown["migrations"], shown["error"]) == ([], None, "")

    def test_one_costs_the_same_however_many_hosts_it_has(self) -> None:
        def cost() -> int:
            with CaptureQueriesContext(connection) as queries:
                assert self.client.get(f"/api/v1/deployments/{self.deployment.pk}/").status_code == 200
            return len(queries)

        before = cost()
        for number in range(3, 6):
            target = make_target(self.deployment, f"staging-{number}", "BeforeInstall")
            make_record(target.events.get())
        # 1: token with user  2: the deployment  3: its targets  4: their events with records
        assert cost() == before == 4

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
        # 1: token with user  2: deployments with environment, service, release, promotion, and in JSON
        # their targets with events, without logs
        with self.assertNumQueries(2) as queries:
            self.client.get("/api/v1/deployments/")
        assert "log_tail" not in queries[1]["sql"]

    def test_the_list_says_of_hosts_what_one_says(self) -> None:
        # Whole seconds, parts of one, and none.
        times = datetime(2026, 3, 1, 22, tzinfo=UTC), datetime(2026, 3, 1, 22, 0, 1, 120_000, tzinfo=UTC)
        target = self.deployment.targets.get(target_id="staging-1")
        target.events.filter(name="AfterInstall").update(
            started_at=times[0], finished_at=times[1], message='"It" ends\nat 22:00+00:00'
        )
        target.events.filter(name="BeforeInstall").update(started_at=None)
        (listed,) = self.client.get("/api/v1/deployments/", {"environment": "staging"}).json()["results"]
        one = self.client.get(f"/api/v1/deployments/{self.deployment.pk}/").json()
        for target in one["targets"]:
            for event in target["events"]:
                for name in ("log_tail", "cause", "record"):
                    del event[name]
        assert listed["targets"] == one["targets"]
        assert listed["targets"][0]["events"][1]["started_at"] == "2026-03-01T22:00:00Z"
        assert listed["targets"][0]["events"][1]["finished_at"] == "2026-03-01T22:00:01.120000Z"

    def test_one_without_hosts_has_none(self) -> None:
        (listed,) = self.client.get("/api/v1/deployments/", {"environment": "production"}).json()["results"]
        assert listed["targets"] == []
