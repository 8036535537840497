"""manage.py flaky."""

import io
import json

from django.core.management import CommandError, call_command
from django.test import TestCase

from apps.builds.models import CaseState
from tests.factories import (
    make_build,
    make_quarantine,
    make_report,
    make_result,
    make_service,
    make_state,
    make_user,
)


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("flaky", *arguments, stdout=out)
    return out.getvalue()


class FlakyCommandTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        report = make_report(make_build(make_service("web")), failed=2)
        cls.flaky = make_state(make_result(report, name="test_\x1b[31mflaky"))
        cls.broken = make_state(make_result(report, name="test_broken"), "broken", score=None)

    def test_it_lists_states_scores_and_names(self) -> None:
        make_quarantine(self.broken.case, by=make_user("ben"), reason="see #12")
        lines = run("web").splitlines()
        assert lines[1].split()[:3] == ["quarantined", "-", "4/20"]
        assert lines[1].endswith("unit  tests.test_example::test_broken")
        assert lines[2].strip().startswith("by ben until ")
        assert lines[2].endswith("UTC: see #12")
        assert lines[3].split()[:3] == ["flaky", "0.32", "4/20"]
        assert str(self.flaky.case_id) in lines[3]
        # What a report calls a test does not steer a terminal.
        assert "\x1b" not in lines[3]

    def test_one_state_and_the_first_few(self) -> None:
        assert "test_broken" not in run("web", "--state", "flaky")
        assert run("web", "--limit", "1").splitlines()[-1] == "… and 1 more: --limit shows more of them."
        assert run("web", "--state", "quarantined") == "No test case of web is quarantined.\n"

    def test_json_is_what_the_api_gives(self) -> None:
        first, second = map(json.loads, run("web", "--json").splitlines())
        assert (first["state"], second["score"]) == ("broken", 0.316)

    def test_a_rebuild_goes_by_the_outcomes_that_are_kept(self) -> None:
        # None are, of these.
        run("web", "--rebuild")
        assert not CaseState.objects.exists()

    def test_an_unknown_service_is_named(self) -> None:
        with self.assertRaisesMessage(CommandError, "There is no service 'shop'."):
            run("shop")
