"""Why is it not there? At the API, on the admin's page and in the terminal."""

import io
import json
from datetime import datetime, timedelta

import jsonschema
import pytest
from django.core.management import CommandError, call_command
from django.test import TestCase
from django.urls import reverse
from django.utils import timezone

from apps.gates.models import Decision
from apps.ledger.models import Entry
from apps.promotions.models import Promotion
from apps.promotions.remembered import forget
from apps.promotions.services import approve_promotion, reject_promotion
from tests.backend.test_api_schema import nullable, schema
from tests.clients import ApiClient, signed_in
from tests.factories import (
    make_deployment,
    make_environment,
    make_occupancy,
    make_promotion,
    make_release,
    make_report,
    make_result,
    make_target,
    make_user,
    make_window,
)
from tests.promotions.cast import Cast


class ExplanationCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.cast.policy(cls.cast.production, "approved", "verified_upstream", "max_failures")
        cls.release = cls.cast.release()

    def arrive(self, release, environment=None):
        deployment = make_deployment(environment or self.cast.production, release)
        return make_occupancy(deployment), deployment


class ApiTests(ExplanationCase):
    def explain(self, promotion, user=None):
        client = ApiClient(user or self.cast.vic, "read")
        return client.get(f"/api/v1/promotions/{promotion.pk}/explanation/")

    def test_the_worst_comes_first_with_who_can_act(self):
        promotion = self.cast.request(self.release, self.cast.production)
        told = self.explain(promotion).json()
        assert [(each["rule"], each["verdict"]) for each in told["unmet"]] == [
            ("verified_upstream", "blocked"),
            ("approved", "waiting_human"),
        ]
        assert [each["who"] for each in told["unmet"]] == ["a developer of shop", "ben, cem, dan"]
        assert [each["rule"] for each in told["met"]] == ["max_failures"]
        assert told["verdict"] == "blocked"
        assert told["answer"] == "2 of 3 conditions are not met. Waiting alone does not mend it."
        assert (told["earliest"], told["not_before"], told["running"]) == (None, None, None)
        assert told["links"]["page"].endswith(f"/promotions/promotion/{promotion.pk}/change/")

    def test_it_is_what_is_true_now_and_writes_nothing(self):
        promotion = self.cast.request(self.release, self.cast.production)
        self.arrive(self.release, self.cast.staging)
        before = Decision.objects.count(), Entry.objects.count()
        told = self.explain(promotion).json()
        assert told["verdict"] == "waiting_human"
        assert told["answer"].startswith("1 of 3 conditions is not met. It passes as soon as")
        assert (Decision.objects.count(), Entry.objects.count()) == before

    def test_an_open_gate_says_what_is_waited_for(self):
        promotion = self.cast.request(self.release)
        told = self.explain(promotion).json()
        assert told["unmet"] == []
        assert "manage.py reconcile starts it" in told["answer"]
        assert told["earliest"] == told["evaluated_at"]

    def test_what_is_over_keeps_its_last_findings(self):
        promotion = self.cast.request(self.release, self.cast.production)
        reject_promotion(promotion=promotion, user=self.cast.ben, comment="Not on a Friday.")
        told = self.explain(promotion).json()
        assert told["status"] == "rejected"
        assert told["answer"] == "It is rejected: Rejected by ben: Not on a Friday."
        assert told["not_before"] is None
        assert told["unmet"]

    def test_what_has_arrived_says_so(self):
        _, deployment = self.arrive(self.release)
        promotion = make_promotion(
            self.cast.production, self.release, status="succeeded", deployment=deployment
        )
        told = self.explain(promotion).json()
        assert told["answer"].startswith("It arrived, and is there since ")
        assert told["running"]["release"]["id"] == self.release.pk
        assert (told["verdict"], told["unmet"], told["evaluated_at"]) == (None, [], None)

    def test_a_stranger_finds_nothing(self):
        promotion = self.cast.request(self.release)
        assert self.explain(promotion, self.cast.eve).status_code == 404
        assert self.explain(promotion, make_user()).status_code == 404

    def test_soak_window_and_approval_make_one_time(self):
        soak = {"rule": "soak", "parameters": {"minutes": 60}}
        self.cast.policy(self.cast.production, "approved", soak, "in_window")
        now = timezone.now()
        occupancy, deployment = self.arrive(self.release, self.cast.staging)
        make_target(deployment)
        opens = (now + timedelta(hours=5)).replace(second=0, microsecond=0)
        # Open now, but shut when the soak is over; and again later.
        make_window(
            self.cast.production,
            name="now",
            starts_at=f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M}",
            minutes=90,
        )
        make_window(self.cast.production, name="later", starts_at=f"{opens:%Y-%m-%dT%H:%M}", rrule="")
        promotion = self.cast.request(self.release, self.cast.production)
        told = self.explain(promotion).json()
        assert [each["rule"] for each in told["unmet"]] == ["approved", "soak"]
        assert datetime.fromisoformat(told["unmet"][1]["earliest"]) == occupancy.since + timedelta(hours=1)
        assert told["earliest"] is None
        assert datetime.fromisoformat(told["not_before"]) == opens
        approve_promotion(promotion=promotion, user=self.cast.ben)
        told = self.explain(promotion).json()
        assert datetime.fromisoformat(told["earliest"]) == opens
        assert told["answer"].endswith(f"It passes by itself at {opens:%Y-%m-%d %H:%M} UTC.")

    def test_it_takes_as_many_queries_for_much_evidence_as_for_little(self):
        promotion = self.cast.request(self.release, self.cast.production)
        client = ApiClient(self.cast.vic, "read")
        path = f"/api/v1/promotions/{promotion.pk}/explanation/"
        make_target(make_deployment(self.cast.staging))
        make_result(make_report(self.release.build, name="first", failed=1))
        counts = []
        for round_ in range(2):
            forget()
            with self.subTest(round_), self.assertNumQueries(self.QUERIES):
                counts.append(len(client.get(path).json()["unmet"]))
            for number in range(3):
                report = make_report(self.release.build, name=f"r-{round_}-{number}", failed=2)
                make_result(report)
            make_environment(self.cast.service, f"more-{round_}")
            make_promotion(self.cast.staging, make_release(self.cast.service))
            approver = self.cast.ben if round_ == 0 else self.cast.cem
            approve_promotion(promotion=promotion, user=approver)
        assert counts == [3, 2]

    # token and user, the promotion to check who may see it, the promotion with all that is shown,
    # policy, facts (tests/promotions/test_facts.py counts them, with failures), what runs
    QUERIES = 21

    def test_it_is_as_the_schema_says(self):
        described = schema()
        content = described["paths"]["/api/v1/promotions/{id}/explanation/"]["get"]["responses"]["200"]
        document = nullable(
            {**content["content"]["application/json"]["schema"], "components": described["components"]}
        )
        for component in document["components"]["schemas"].values():
            if "properties" in component:
                component["additionalProperties"] = False
        self.arrive(self.release, self.cast.staging)
        promotions = [self.cast.request(self.release, self.cast.production), self.cast.request(self.release)]
        promotions.append(
            make_promotion(
                self.cast.production,
                make_release(self.cast.service),
                status="failed",
                deployment=make_deployment(self.cast.production),
            )
        )
        for promotion in promotions:
            jsonschema.validate(self.explain(promotion).json(), document, jsonschema.Draft202012Validator)


class AdminTests(ExplanationCase):
    def test_the_page_gives_the_whole_answer_first(self):
        promotion = self.cast.request(self.release, self.cast.production)
        page = reverse("admin:promotions_promotion_change", args=[promotion.pk])
        root = make_user("root", is_superuser=True, is_staff=True)
        content = signed_in(root).get(page).content.decode()
        assert "2 of 3 conditions are not met." in content
        assert content.index("2 of 3 conditions") < content.index("never been deployed to staging")
        assert content.index("never been deployed to staging") < content.index("It needs 1 more approval")
        assert "can be supplied by ben, cem, dan" in content


class WhyTests(ExplanationCase):
    def why(self, *more, environment="production"):
        out, code = io.StringIO(), 0
        try:
            call_command("why", "shop", environment, *more, stdout=out)
        except SystemExit as end:
            code = end.code
        return out.getvalue(), code

    def test_of_what_waits_it_tells_all_that_is_unmet(self):
        promotion = self.cast.request(self.release, self.cast.production)
        out, code = self.why()
        assert code == 10
        lines = out.splitlines()
        assert lines[0] == f"{self.release.version} → shop/production: promotion {promotion.pk} is pending"
        assert lines[1] == "Runs there now: nothing"
        assert "Blocked               verified_upstream: " in lines[3]
        assert "→ ben, cem, dan" in out
        assert lines[-1] == "  met: max_failures"

    def test_if_nobody_asked_it_tells_what_it_would_take(self):
        newer = self.cast.release()
        self.arrive(newer, self.cast.staging)
        out, code = self.why()
        assert code == 11
        assert f"{newer.version} → shop/production: nobody has asked" in out
        assert f"Nobody has asked for {newer.version} to be brought to production." in out
        assert "manage.py promote" in out
        assert "1 more approval by someone other than whoever asks" in out
        assert not Promotion.objects.exists()

    def test_an_unmet_rule_that_is_worse_than_asking_decides_the_exit_code(self):
        assert self.why()[1] == 10

    def test_after_a_bad_end_it_tells_how_it_ended_and_what_a_retry_would_take(self):
        self.arrive(self.release, self.cast.staging)
        promotion = self.cast.request(self.release, self.cast.production)
        reject_promotion(promotion=promotion, user=self.cast.ben, comment="Not on a Friday.")
        out, code = self.why()
        assert code == 11
        ended = f"Promotion {promotion.pk} of it is rejected: Rejected by ben: Not on a Friday. A retry"
        assert ended in out
        assert "It needs 1 more approval" in out

    def test_what_was_last_asked_for_comes_before_what_is_newest(self):
        promotion = self.cast.request(self.release, self.cast.production)
        reject_promotion(promotion=promotion, user=self.cast.ben, comment="")
        self.cast.release()
        assert self.why()[0].startswith(f"{self.release.version} → ")

    def test_once_that_has_arrived_it_is_about_the_newest(self):
        _, deployment = self.arrive(self.release)
        make_promotion(self.cast.production, self.release, status="succeeded", deployment=deployment)
        newer = self.cast.release()
        out, _ = self.why()
        assert out.startswith(f"{newer.version} → ")
        assert f"Runs there now: {self.release.version} since " in out

    def test_the_newest_being_there_is_the_answer(self):
        self.arrive(self.release)
        out, code = self.why()
        assert code == 0
        assert "It is there since " in out

    def test_another_release_can_be_asked_about(self):
        self.cast.release()
        out, code = self.why("--release", self.release.version)
        assert out.startswith(f"{self.release.version} → ")
        assert code == 10

    def test_an_open_gate_and_what_is_under_way_end_with_0(self):
        promotion = self.cast.request(self.release)
        assert self.why(environment="staging")[1] == 0
        deployment = make_deployment(self.cast.staging, self.release, status="running")
        Promotion.objects.filter(pk=promotion.pk).update(status="deploying", deployment=deployment)
        out, code = self.why(environment="staging")
        assert code == 0
        assert "is deploying" in out

    def test_json_is_what_the_api_says(self):
        promotion = self.cast.request(self.release, self.cast.production)
        out, code = self.why("--json")
        told = json.loads(out)
        assert code == 10
        path = f"/api/v1/promotions/{promotion.pk}/explanation/"
        answer = ApiClient(self.cast.vic, "read").get(path).json()
        for moving in ("evaluated_at", "links"):
            told.pop(moving, None)
            answer.pop(moving, None)
        assert told == answer

    def test_unknown_names_and_no_release_are_errors(self):
        for arguments, words in (
            (("shp", "production"), "no service 'shp'"),
            (("shop", "prod"), "no environment 'prod'. Known: staging, production"),
        ):
            with pytest.raises(CommandError, match=words):
                call_command("why", *arguments)
        make_environment(self.cast.service.__class__.objects.create(slug="bare", codebuild_project="bare"))
        with pytest.raises(CommandError, match="bare has no release yet"):
            call_command("why", "bare", "staging")
