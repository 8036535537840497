"""GET /api/v1/case-states/."""

from datetime import timedelta

from django.test import TestCase
from django.utils import timezone

from tests.clients import ApiClient
from tests.factories import (
    make_build,
    make_member,
    make_quarantine,
    make_report,
    make_result,
    make_service,
    make_state,
    make_user,
)

PATH = "/api/v1/case-states/"


class CaseStateApiTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.report = make_report(make_build(cls.service), failed=3)
        cls.flaky = make_state(make_result(cls.report, name="test_flaky"))
        cls.broken = make_state(make_result(cls.report, name="test_broken"), "broken", score=None)
        cls.mended = make_state(make_result(cls.report, name="test_mended"), "healthy")
        cls.quarantine = make_quarantine(cls.mended.case, reason="see #12", by=make_user("ben"))
        cls.viewer = make_member(cls.service, "viewer")

    def setUp(self) -> None:
        self.client = ApiClient(self.viewer)

    def names(self, **filters: str) -> list[str]:
        return [row["name"] for row in self.client.get(PATH, filters).json()["results"]]

    def test_it_lists_what_is_not_healthy(self) -> None:
        assert self.names() == ["test_mended", "test_broken", "test_flaky"]

    def test_a_state_has_its_numbers(self) -> None:
        row = self.client.get(f"{PATH}{self.flaky.pk}/").json()
        assert row["case"] == str(self.flaky.case_id)
        assert (row["state"], row["behaviour"], row["score"]) == ("flaky", "flaky", 0.316)
        assert (row["runs"], row["failures"], row["transitions"], row["commits"]) == (20, 4, 6, 1)
        assert (row["report"], row["build"]) == ("unit", self.report.build_id)
        assert row["quarantine"] is None
        assert self.client.get(f"{PATH}{self.broken.pk}/").json()["score"] is None

    def test_a_quarantined_case_says_by_whom_why_and_until_when(self) -> None:
        row = self.client.get(f"{PATH}{self.mended.pk}/").json()
        assert (row["state"], row["behaviour"]) == ("quarantined", "healthy")
        told = row["quarantine"]
        assert (told["by"], told["reason"]) == ("ben", "see #12")
        assert told["until"].startswith(f"{self.quarantine.until:%Y-%m-%dT%H:%M}")

    def test_states_filter_by_what_people_see(self) -> None:
        make_quarantine(self.broken.case)
        assert self.names(state="quarantined") == ["test_mended", "test_broken"]
        assert self.names(state="broken") == []
        assert self.names(state="flaky") == ["test_flaky"]
        assert self.names(case=str(self.flaky.case_id)) == ["test_flaky"]
        assert self.client.get(PATH, {"state": "healthy"}).status_code == 400

    def test_what_is_mended_goes_with_its_quarantine(self) -> None:
        began = timezone.now() - timedelta(days=3)
        type(self.quarantine).objects.update(created_at=began, until=began + timedelta(days=2))
        assert self.names() == ["test_broken", "test_flaky"]
        assert self.client.get(f"{PATH}{self.mended.pk}/").status_code == 404

    def test_a_quarantine_that_has_run_out_is_told_no_more(self) -> None:
        began = timezone.now() - timedelta(days=3)
        make_quarantine(self.flaky.case)
        assert self.names(state="quarantined") == ["test_mended", "test_flaky"]
        type(self.quarantine).objects.update(created_at=began, until=began + timedelta(days=2))
        row = self.client.get(f"{PATH}{self.flaky.pk}/").json()
        assert (row["state"], row["quarantine"]) == ("flaky", None)
        assert self.names(state="flaky") == ["test_flaky"]

    def test_a_stranger_sees_nothing(self) -> None:
        self.client = ApiClient(make_user())
        assert self.names() == []
        assert self.client.get(f"{PATH}{self.flaky.pk}/").status_code == 404

    def test_the_list_does_not_query_per_row(self) -> None:
        # 1: token with user  2: states with case, group, service and quarantine
        with self.assertNumQueries(2):
            self.client.get(PATH)
