"""A build's tests beside those of what an environment runs."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import TestCase

from tests.builds.outcomes import report
from tests.clients import ApiClient
from tests.factories import (
    make_build,
    make_deployment,
    make_environment,
    make_member,
    make_occupancy,
    make_release,
    make_service,
    make_user,
)


class CompareWithRunningTests(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.service = make_service("web")
        cls.production = make_environment(cls.service, "production")
        cls.running = make_release(cls.service)
        report(cls.running.build, "ppf")
        gone = make_occupancy(make_deployment(cls.production))
        gone.until = gone.since
        gone.save()
        make_occupancy(make_deployment(cls.production, cls.running))
        cls.build = make_build(cls.service)
        report(cls.build, "pf")
        cls.viewer = make_member(cls.service, "viewer")
        cls.path = f"/api/v1/environments/{cls.production.pk}/comparison/{cls.build.pk}/"

    def test_the_api_compares_with_what_runs_there(self) -> None:
        client = ApiClient(self.viewer)
        # 1: token with user  2: environment  3: build  4: what runs there  5: reports  6: names
        with self.assertNumQueries(6):
            found = client.get(self.path).json()
        assert (found["build"]["id"], found["against"]["id"]) == (self.build.pk, self.running.build.pk)
        assert (found["counts"]["new_failures"], found["counts"]["vanished"]) == (1, 1)

    def test_nothing_to_compare_with_is_a_conflict(self) -> None:
        empty = make_environment(self.service, "empty")
        response = ApiClient(self.viewer).get(f"/api/v1/environments/{empty.pk}/comparison/{self.build.pk}/")
        assert response.status_code == 409
        assert "Nothing runs in empty" in response.json()["detail"]

    def test_what_is_not_theirs_is_not_there(self) -> None:
        assert ApiClient(make_user()).get(self.path).status_code == 404
        hidden = make_build()
        path = f"/api/v1/environments/{self.production.pk}/comparison/{hidden.pk}/"
        assert ApiClient(self.viewer).get(path).status_code == 404
        root = ApiClient(make_user("root", is_superuser=True))
        assert root.get(path).status_code == 400

    def test_the_command_takes_the_newest_build_with_reports(self) -> None:
        make_build(self.service)
        out = StringIO()
        call_command("compare", "web", "production", "--json", stdout=out)
        found = json.loads(out.getvalue())
        assert found["build"]["id"] == self.build.pk
        out = StringIO()
        call_command("compare", "web", "production", "--build", str(self.running.build.pk), stdout=out)
        assert f"Build {self.running.build.pk}" in out.getvalue()

    def test_the_command_says_what_it_lacks(self) -> None:
        make_environment(self.service, "empty")
        with pytest.raises(CommandError, match="Nothing runs in empty"):
            call_command("compare", "web", "empty")
        with pytest.raises(CommandError, match="no environment 'none'"):
            call_command("compare", "web", "none")
