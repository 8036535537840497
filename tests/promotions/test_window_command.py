"""manage.py window: list, add, change and remove."""

import io

import pytest
from django.core.management import CommandError, call_command
from django.test import TestCase

from apps.ledger.models import Entry
from apps.promotions.models import Window
from tests.factories import make_window
from tests.promotions.cast import Cast


class WindowCommandTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()

    def run_it(self, *arguments):
        out = io.StringIO()
        call_command("window", "shop", "production", *arguments, stdout=out)
        return out.getvalue()

    def refusal(self, *arguments):
        with pytest.raises(CommandError) as told:
            self.run_it(*arguments)
        return str(told.value)

    def nights(self, *more):
        return self.run_it(
            *("--set", "nights", "--kind", "allow", "--starts-at", "2026-03-01T22:00"),
            *("--timezone", "Europe/Berlin", "--minutes", "480", "--user", "olga", *more),
        )

    def test_one_is_added_and_shown_with_its_next_openings(self):
        told = self.nights("--rrule", "freq=daily")
        window = Window.objects.get()
        assert (window.environment, window.kind, window.minutes, window.rrule) == (
            self.cast.production,
            "allow",
            480,
            "FREQ=DAILY",
        )
        assert Entry.objects.get(action="window.added").actor == self.cast.olga
        assert told == self.run_it()
        lines = told.splitlines()
        assert lines[0].startswith("nights: allow, ")
        assert lines[0].endswith("2026-03-01T22:00 Europe/Berlin, 480 minutes, FREQ=DAILY")
        assert len(lines) == 4

    def test_one_that_is_there_is_changed_in_what_is_named(self):
        self.nights()
        assert "does not open again within a year" in self.run_it()
        self.run_it("--set", "nights", "--rrule", "FREQ=WEEKLY;BYDAY=MO", "--user", "olga")
        window = Window.objects.get()
        assert (window.rrule, window.minutes) == ("FREQ=WEEKLY;BYDAY=MO", 480)
        assert Entry.objects.filter(action="window.changed").count() == 1

    def test_one_is_removed(self):
        make_window(self.cast.production, name="nights")
        make_window(self.cast.staging, name="nights")
        assert "no window nights any more" in self.run_it("--remove", "nights", "--user", "olga")
        assert Window.objects.get().environment == self.cast.staging
        assert "no windows: always open" in self.run_it()
        assert "no window called nights" in self.refusal("--remove", "nights", "--user", "olga")

    def test_what_is_missing_or_wrong_is_said_and_nothing_written(self):
        assert "also needs --starts-at, --timezone, --minutes" in self.refusal(
            "--set", "nights", "--kind", "allow", "--user", "olga"
        )
        assert "by --set NAME" in self.refusal("--kind", "allow")
        assert "not both" in self.refusal("--set", "a", "--remove", "a", "--user", "olga")
        assert "by --user" in self.refusal("--set", "nights")
        assert "no active user 'nobody'" in self.refusal("--remove", "nights", "--user", "nobody")
        with pytest.raises(CommandError, match="SECONDLY"):
            self.nights("--rrule", "FREQ=SECONDLY")
        assert not Window.objects.exists()

    def test_only_operators_may(self):
        make_window(self.cast.production, name="nights")
        assert "operator" in self.refusal("--remove", "nights", "--user", "ben")
        assert "operator" in self.refusal("--set", "nights", "--minutes", "5", "--user", "ann")
        assert Window.objects.get().minutes != 5

    def test_one_that_this_machine_cannot_read_is_listed(self):
        make_window(self.cast.production, name="nights", timezone="Mars/Olympus")
        assert "nights: allow, cannot be read: " in self.run_it()
