"""Windows: who changes them, what the gate and the ledger learn of it, at the services and the API."""

from datetime import timedelta

import pytest
from django.test import TestCase
from django.utils import timezone

from apps.errors import DomainError, Forbidden, Invalid, NotFound
from apps.leases import take
from apps.ledger.models import Entry
from apps.promotions.models import Promotion, Window
from apps.promotions.windows import MOST, add_window, change_window, remove_window
from tests.clients import ApiClient
from tests.factories import make_environment, make_member, make_service, make_window
from tests.promotions.cast import Cast

PATH = "/api/v1/windows/"
NIGHTS = {
    "kind": "allow",
    "name": "nights",
    "starts_at": "2026-01-01T22:00",
    "timezone": "Europe/Berlin",
    "minutes": 120,
    "rrule": "FREQ=DAILY",
}


class WindowCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.oda = make_member(cls.cast.service, "operator", username="oda")
        cls.cast.policy(cls.cast.staging, "in_window")

    def add(self, by=None, **values):
        return add_window(environment=self.cast.staging, by=by or self.oda, **{**NIGHTS, **values})

    def shut(self):
        """A deny that is open now."""
        begin = timezone.now() - timedelta(minutes=10)
        values = {"kind": "deny", "name": "freeze", "timezone": "UTC", "rrule": ""}
        return self.add(starts_at=f"{begin:%Y-%m-%dT%H:%M}", **values)

    def entries(self):
        return list(Entry.objects.filter(action__startswith="window.").order_by("sequence"))


class ServiceTests(WindowCase):
    def test_only_operators_change_windows(self):
        window = self.add()
        for user in (self.cast.ann, self.cast.ben, self.cast.vic):
            for act in (
                lambda user=user: self.add(by=user, name="more"),
                lambda user=user: change_window(window=window, by=user, minutes=5),
                lambda user=user: remove_window(window=window, by=user),
            ):
                with pytest.raises(Forbidden):
                    act()
        with pytest.raises(NotFound):
            self.add(by=self.cast.eve)
        assert [each.action for each in self.entries()] == ["window.added"]

    def test_the_ledger_has_what_it_was_each_time(self):
        window = change_window(window=self.add(), by=self.oda, minutes=60, name=" late  nights ")
        assert (window.name, window.minutes, window.rrule) == ("late nights", 60, "FREQ=DAILY")
        # The same again changes nothing.
        change_window(window=window, by=self.oda, minutes=60, rrule="RRULE:freq=daily")
        remove_window(window=window, by=self.oda)
        added, changed, removed = self.entries()
        assert added.data == {"environment": "staging", **NIGHTS}
        assert changed.data == {**added.data, "name": "late nights", "minutes": 60}
        assert (changed.actor, changed.subject) == (self.oda, f"window:{window.pk}")
        assert (removed.action, removed.data) == ("window.removed", changed.data)
        assert not Window.objects.exists()

    def test_what_the_gate_could_not_read_is_refused_and_nothing_written(self):
        window = self.add()
        with pytest.raises(Invalid, match="opens too often"):
            self.add(name="more", rrule="FREQ=MINUTELY")
        with pytest.raises(Invalid, match="IANA"):
            change_window(window=window, by=self.oda, timezone="Berlin")
        with pytest.raises(Invalid, match="no colour"):
            change_window(window=window, by=self.oda, colour="red")
        with pytest.raises(Invalid, match="1 to 60"):
            change_window(window=window, by=self.oda, name=" ")
        window.refresh_from_db()
        assert (window.timezone, len(self.entries())) == ("Europe/Berlin", 1)

    def test_a_name_is_there_once(self):
        self.add()
        with pytest.raises(DomainError, match="called nights already"):
            self.add(kind="deny")
        other = self.add(name="days")
        with pytest.raises(DomainError, match="called nights already"):
            change_window(window=other, by=self.oda, name="nights")

    def test_one_that_is_gone_is_said_to_be_gone(self):
        window = self.add()
        remove_window(window=window, by=self.oda)
        with pytest.raises(DomainError, match="removed meanwhile"):
            change_window(window=window, by=self.oda, minutes=5)
        with pytest.raises(DomainError, match="removed meanwhile"):
            remove_window(window=window, by=self.oda)

    def test_there_is_an_end_to_how_many(self):
        for _ in range(MOST):
            make_window(self.cast.staging)
        with pytest.raises(DomainError, match="is the most"):
            self.add()

    def test_the_gate_obeys_them(self):
        assert self.cast.request().decision.verdict == "pass"
        self.shut()
        promotion = self.cast.request()
        assert promotion.decision.verdict == "waiting_time"
        (finding,) = promotion.decision.findings
        assert "closed by freeze" in finding["sentence"]
        assert finding["earliest"] is not None

    def test_windows_of_other_environments_do_not_matter(self):
        make_window(self.cast.production, kind="deny", starts_at="2020-01-01T00:00", rrule="FREQ=HOURLY")
        assert self.cast.request().decision.verdict == "pass"

    def test_what_waits_there_is_woken_by_each_change(self):
        promotion = self.cast.request()

        def rests():
            take(Promotion.objects.all(), owner="w", duration=timedelta(minutes=1)).release(
                timedelta(hours=1)
            )

        def woken():
            return Promotion.objects.get(pk=promotion.pk).lease_until is None

        rests()
        with self.captureOnCommitCallbacks(execute=True):
            window = self.add()
        assert woken()
        rests()
        with self.captureOnCommitCallbacks(execute=True):
            change_window(window=window, by=self.oda, minutes=5)
        assert woken()
        rests()
        with self.captureOnCommitCallbacks(execute=True):
            remove_window(window=window, by=self.oda)
        assert woken()


class ApiTests(WindowCase):
    def setUp(self):
        self.client = ApiClient(self.oda)

    def body(self, **values):
        return {"service": "shop", "environment": "staging", **NIGHTS, **values}

    def test_an_operator_adds_changes_and_removes_one(self):
        response = self.client.post(PATH, self.body())
        assert response.status_code == 201, response.content
        made = response.json()
        assert made["rrule"] == "FREQ=DAILY"
        assert len(made["openings"]) == 5
        assert response["Location"].endswith(f"{PATH}{made['id']}/")
        path = f"{PATH}{made['id']}/"
        changed = self.client.patch(path, {"minutes": 5}, content_type="application/json").json()
        assert (changed["minutes"], changed["name"]) == (5, "nights")
        assert self.client.get(path).json() == changed
        assert self.client.delete(path).status_code == 204
        assert self.client.get(path).status_code == 404

    def test_it_tells_whether_it_is_open_and_when(self):
        window = self.shut()
        told = self.client.get(f"{PATH}{window.pk}/").json()
        assert told["open"] is True
        (opening,) = told["openings"]
        assert opening["opens"].startswith(window.starts_at)

    def test_one_that_cannot_be_read_is_shown_all_the_same(self):
        window = make_window(self.cast.staging, timezone="Mars/Olympus")
        told = self.client.get(f"{PATH}{window.pk}/").json()
        assert (told["open"], told["openings"]) == (None, [])

    def test_what_is_wrong_is_told(self):
        for values, status, words in (
            ({"rrule": "FREQ=SECONDLY"}, 400, "opens too often"),
            ({"starts_at": "noon"}, 400, "starts_at must be a local time"),
            ({"timezone": "Berlin"}, 400, "timezone must be"),
            ({"colour": "red"}, 400, "Unknown field"),
            ({"minutes": 0}, 400, "minutes"),
            ({"environment": "moon"}, 404, "no environment"),
        ):
            with self.subTest(values):
                response = self.client.post(PATH, self.body(**values))
                assert response.status_code == status
                assert words in response.content.decode()
        assert not Window.objects.exists()

    def test_a_name_that_is_taken_is_a_conflict(self):
        self.client.post(PATH, self.body())
        assert self.client.post(PATH, self.body()).status_code == 409

    def test_a_pipelines_token_changes_none(self):
        window = self.add()
        client = ApiClient(self.oda, "read", "ci", "approve")
        assert client.post(PATH, self.body(name="more")).status_code == 403
        assert client.delete(f"{PATH}{window.pk}/").status_code == 403
        assert client.get(PATH).status_code == 200

    def test_they_are_filtered(self):
        make_window(self.cast.production, kind="deny", name="freeze")
        self.add()

        def names(**query):
            return [each["name"] for each in self.client.get(PATH, query).json()["results"]]

        assert names() == ["nights", "freeze"]
        assert names(environment="production") == ["freeze"]
        assert names(kind="allow") == ["nights"]
        assert names(service="elsewhere") == []

    def test_lists_do_not_query_per_row(self):
        # 1: token with user  2: windows with service and environment
        make_window(make_environment(make_service()))
        for _ in range(5):
            make_window(self.cast.staging)
        with self.assertNumQueries(2):
            found = self.client.get(PATH).json()["results"]
        assert len(found) == 5
