"""Windows in the admin: operators of the service change them, and see when they will open."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from django.test import TestCase
from django.urls import reverse
from django.utils import timezone

from apps.ledger.models import Entry
from apps.promotions.models import Window
from tests.clients import signed_in
from tests.factories import make_environment, make_member, make_service, make_user, make_window

ADD = reverse("admin:promotions_window_add")
BERLIN = ZoneInfo("Europe/Berlin")


class WindowAdminTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.production = make_environment(cls.service, "production")
        cls.other = make_environment(make_service("other"), "elsewhere")
        cls.oda = make_member(cls.service, "operator", username="oda", is_staff=True)
        cls.oda.memberships.create(service=cls.other.service, role="viewer")
        cls.vic = make_member(cls.service, "viewer", username="vic", is_staff=True)

    def setUp(self) -> None:
        self.client = signed_in(self.oda)

    def page(self, window: Window, page: str = "change") -> str:
        return reverse(f"admin:promotions_window_{page}", args=[window.pk])

    def form(self, **values: object) -> dict[str, object]:
        return {
            "environment": self.production.pk,
            "kind": "allow",
            "name": "nights",
            "starts_at": "2026-01-01T22:00",
            "timezone": "Europe/Berlin",
            "minutes": 120,
            "rrule": "rrule:freq=daily",
            **values,
        }

    def test_an_operator_adds_one_and_is_told_when_it_opens(self) -> None:
        # Two hours before it opens, whatever the time is.
        opens = timezone.now().astimezone(BERLIN) + timedelta(hours=2)
        response = self.client.post(ADD, self.form(starts_at=f"2026-01-01T{opens:%H:%M}"), follow=True)
        window = Window.objects.get()
        assert (window.environment, window.rrule) == (self.production, "FREQ=DAILY")
        self.assertContains(response, "nights opens next at")
        assert Entry.objects.get(action="window.added").actor == self.oda

    def test_one_that_is_open_tells_until_when(self) -> None:
        opened = timezone.now().astimezone(BERLIN) - timedelta(hours=1)
        response = self.client.post(ADD, self.form(starts_at=f"2026-01-01T{opened:%H:%M}"), follow=True)
        self.assertContains(response, "nights is open until")

    def test_the_page_shows_the_next_openings_in_both_times(self) -> None:
        window = make_window(
            self.production, starts_at="2099-12-24T22:00", timezone="Europe/Berlin", minutes=120, rrule=""
        )
        self.assertContains(self.client.get(self.page(window)), "None within a year.")
        Window.objects.update(starts_at="2026-01-01T22:00", rrule="FREQ=DAILY")
        self.assertContains(self.client.get(self.page(window)), " 22:00 to ", 5)

    def test_it_is_changed_through_the_service(self) -> None:
        window = make_window(self.production)
        self.client.post(self.page(window), self.form(minutes=30))
        window.refresh_from_db()
        assert (window.minutes, window.name) == (30, "nights")
        assert Entry.objects.get(action="window.changed").data["minutes"] == 30

    def test_it_is_removed_through_the_service(self) -> None:
        window = make_window(self.production)
        self.client.post(self.page(window, "delete"), {"post": "yes"})
        assert not Window.objects.exists()
        assert Entry.objects.get(action="window.removed").actor == self.oda

    def test_what_is_wrong_is_said_beside_its_field(self) -> None:
        for values, words in (
            ({"rrule": "FREQ=MINUTELY"}, "opens too often"),
            ({"starts_at": "noon"}, "starts_at must be a local time"),
            ({"minutes": 10**7}, "minutes must be from 1"),
            ({"timezone": "Berlin"}, "Select a valid choice"),
        ):
            with self.subTest(values):
                response = self.client.post(ADD, self.form(**values))
                assert response.status_code == 200
                self.assertContains(response, words)
                (field,) = values
                assert field in response.context["adminform"].form.errors
        assert not Window.objects.exists()

    def test_a_name_that_is_taken_is_a_message(self) -> None:
        make_window(self.production, name="nights")
        response = self.client.post(ADD, self.form(), follow=True)
        self.assertContains(response, "nights")
        assert Window.objects.count() == 1

    def test_only_environments_that_one_operates_are_offered(self) -> None:
        self.assertNotContains(self.client.get(ADD), "elsewhere")
        self.client.post(ADD, self.form(environment=self.other.pk))
        assert not Window.objects.exists()

    def test_one_of_another_service_is_seen_and_not_changed(self) -> None:
        window = make_window(self.other, name="theirs")
        self.assertContains(self.client.get(self.page(window)), "theirs")
        assert self.client.post(self.page(window), self.form()).status_code == 403
        assert self.client.post(self.page(window, "delete"), {"post": "yes"}).status_code == 403
        assert Window.objects.get().name == "theirs"

    def test_a_viewer_changes_nothing(self) -> None:
        window = make_window(self.production)
        client = signed_in(self.vic)
        self.assertContains(client.get(self.page(window)), window.name)
        assert client.get(ADD).status_code == 403
        assert client.post(self.page(window), self.form()).status_code == 403

    def test_one_that_cannot_be_read_has_a_page_that_says_so(self) -> None:
        window = make_window(self.production, rrule="FREQ=LUNAR")
        client = signed_in(make_user("root", is_staff=True, is_superuser=True))
        self.assertContains(client.get(self.page(window)), "FREQ must be one of")
        changelist = reverse("admin:promotions_window_changelist")
        self.assertContains(client.get(changelist), "FREQ must be one of")
