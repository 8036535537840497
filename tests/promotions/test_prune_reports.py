"""manage.py prune_reports: what goes, and what stays whatever its age."""

import io
from datetime import timedelta
from unittest.mock import patch

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from structlog.testing import capture_logs

from apps.builds.models import Report, ReportFile, ReportOutcomes, TestResult
from apps.builds.models import TestCase as Case
from apps.builds.parsers.case import Outcome
from apps.builds.retention import prune_batch
from apps.catalog.models import Service
from apps.catalog.services import keep_evidence
from apps.gates.models import Decision
from apps.ledger.models import Entry
from apps.promotions.facts import gather
from apps.promotions.models import Promotion
from apps.promotions.reconcile import PRUNE_EVERY, Reconciler
from apps.promotions.retention import prune_some
from apps.promotions.services import evaluate_promotion
from tests.builds.test_store import case, read, write
from tests.clients import ApiClient
from tests.factories import (
    make_build,
    make_deployment,
    make_occupancy,
    make_pin,
    make_promotion,
    make_release,
    make_service,
)
from tests.promotions.cast import Cast


def days_ago(number: int):
    return timezone.now() - timedelta(days=number)


class PruneTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.service = cls.cast.service
        keep_evidence(service=cls.service, days=30)

    def report(self, age: int = 40, service=None) -> Report:
        """A report that was read so many days ago."""
        build = make_build(service or self.service)
        (report,) = write(build, read(build, case("red", Outcome.FAILED), case("green")))
        ReportFile.objects.create(report=report, bucket="b", key="unit.xml", size=1, sha256="0" * 64)
        Report.objects.filter(pk=report.pk).update(created_at=days_ago(age))
        return report

    def run_command(self, *arguments) -> str:
        out = io.StringIO()
        call_command("prune_reports", *arguments, stdout=out)
        return out.getvalue()

    def test_the_reconciler_prunes_a_batch_and_looks_again_in_an_hour(self):
        other = make_service("other")
        keep_evidence(service=other, days=30)
        new = self.report(20)
        for each in (self.service, other):
            self.report(40, each)
        reconciler = Reconciler()
        assert [reconciler.prune_some_evidence() for _ in range(3)] == [True, True, False]
        assert self.kept() == {new.pk}
        late = self.report(40)
        assert not reconciler.prune_some_evidence()
        reconciler.prune_at -= PRUNE_EVERY
        assert reconciler.prune_some_evidence()
        assert late.pk not in self.kept()

    def test_a_service_that_cannot_be_pruned_does_not_hold_up_the_others(self):
        other = make_service("other")
        keep_evidence(service=other, days=30)
        broken, fine = self.report(40), self.report(40, other)

        def prune(service: Service) -> int:
            if service == self.service:
                raise ValueError("damaged")
            return prune_some(service)

        with patch("apps.promotions.reconcile.prune_some", prune), capture_logs() as logs:
            assert Reconciler().prune_some_evidence()
        assert self.kept() == {broken.pk} != {fine.pk}
        assert [each["event"] for each in logs] == ["could not prune", "pruned evidence"]

    def kept(self) -> set[int]:
        return set(ReportOutcomes.objects.values_list("report", flat=True))

    def test_what_is_older_than_the_policy_goes_and_its_counters_stay(self):
        old, new = self.report(40), self.report(20)
        out = self.run_command()
        assert out == f"shop: 1 report from before {days_ago(30):%Y-%m-%d} pruned.\n"
        assert self.kept() == {new.pk}
        for model in (TestResult, ReportFile):
            assert set(model.objects.values_list("report", flat=True)) == {new.pk}
        old.refresh_from_db()
        assert (old.failed, old.passed, old.complete) == (1, 1, True)
        assert old.pruned_at is not None
        assert Case.objects.count() == 2

    def test_the_ledger_names_what_went(self):
        old = self.report()
        self.run_command()
        entry = Entry.objects.filter(chain="shop").order_by("-sequence").first()
        assert entry.action == "evidence.pruned"
        assert (entry.data["reports"], entry.data["builds"]) == ([old.pk], [old.build_id])

    def test_a_dry_run_only_counts(self):
        report = self.report()
        assert "1 report from before" in self.run_command("--dry-run")
        assert self.kept() == {report.pk}
        assert not Entry.objects.filter(action="evidence.pruned").exists()

    def test_a_service_without_a_policy_keeps_all(self):
        other = make_service("web")
        report = self.report(9999, other)
        assert "web: keeps all its evidence." in self.run_command()
        assert self.kept() == {report.pk}

    def test_only_the_services_that_are_named(self):
        other = make_service("web", evidence_days=1)
        mine, theirs = self.report(), self.report(service=other)
        assert self.run_command("web").startswith("web: 1 report")
        assert self.kept() == {mine.pk}
        assert theirs.pk not in self.kept()
        with pytest.raises(CommandError, match="no service"):
            self.run_command("nope")

    def test_what_runs_or_ran_before_stays(self):
        reports = [self.report() for _ in range(5)]
        releases = [make_release(build=report.build) for report in reports]
        # Of production: the last but one twice, as after a retry.
        for number, index in enumerate((0, 1, 2, 2, 3)):
            until = None if index == 3 else days_ago(35 - number)
            deployment = make_deployment(self.cast.production, releases[index])
            make_occupancy(deployment, since=days_ago(36 - number), until=until)
        make_occupancy(make_deployment(self.cast.staging, releases[0]), since=days_ago(36))
        self.run_command()
        assert self.kept() == {reports[index].pk for index in (0, 2, 3)}

    def test_what_waits_or_is_under_way_or_pinned_stays(self):
        waits, moves, pinned, done = (self.report() for _ in range(4))
        make_promotion(self.cast.staging, make_release(build=waits.build))
        release = make_release(build=moves.build)
        deployment = make_deployment(self.cast.production, release, status="running")
        make_promotion(self.cast.production, release, status="deploying", deployment=deployment)
        make_pin(self.cast.staging, make_release(build=pinned.build))
        make_promotion(self.cast.staging, make_release(build=done.build), status="cancelled")
        self.run_command()
        assert self.kept() == {waits.pk, moves.pk, pinned.pk}

    def test_decisions_stay_as_they_are(self):
        report = self.report()
        promotion = self.cast.request(make_release(build=report.build))
        before = Decision.objects.values().get()
        Promotion.objects.update(status="cancelled", finished_at=timezone.now())
        self.run_command()
        assert self.kept() == set()
        assert Decision.objects.values().get() == before
        assert promotion.decision.facts["reports"][0]["failed"] == 1

    def test_in_batches_and_again(self):
        reports = [self.report() for _ in range(5)]
        assert "5 reports from before" in self.run_command("--batch", "2")
        assert self.kept() == set()
        batches = Entry.objects.filter(action="evidence.pruned").order_by("sequence")
        assert [entry.data["reports"] for entry in batches] == [
            [each.pk for each in reports[:2]],
            [each.pk for each in reports[2:4]],
            [reports[4].pk],
        ]
        assert "0 reports from before" in self.run_command()
        assert batches.count() == 3
        with pytest.raises(CommandError, match="--batch"):
            self.run_command("--batch", "0")

    def test_a_batch_takes_the_same_queries_however_much_is_in_it(self):
        for _ in range(10):
            self.report()
        counts = []
        for size in (1, 9):
            with CaptureQueriesContext(connection) as queries:
                prune_batch(service=self.service, before=days_ago(30), keep=[], size=size)
            counts.append(len(queries))
        assert counts[0] == counts[1]

    def test_facts_say_that_cases_are_gone(self):
        report = self.report()
        release = make_release(build=report.build)
        self.run_command()
        (told,) = gather(release=release, environment=self.cast.staging).reports
        assert told.pruned_at is not None
        body = ApiClient(self.cast.vic).get(f"/api/v1/builds/{report.build_id}/").json()
        assert body["reports"][0]["pruned_at"] is not None

    def test_a_gate_that_compares_with_what_went_is_not_sure(self):
        # Such as what ran long ago and was brought back by hand, after its evidence went.
        old = self.report(40)
        self.run_command()
        make_occupancy(make_deployment(self.cast.staging, make_release(build=old.build)))
        rules = ("no_new_failures", "no_vanished_tests")
        self.cast.policy(self.cast.staging, *rules)
        decision = evaluate_promotion(
            promotion=make_promotion(self.cast.staging, make_release(build=self.report(1).build))
        )
        assert decision.verdict == "inconclusive"
        assert {each["rule"] for each in decision.findings} == set(rules)
        for finding in decision.findings:
            assert f"build {old.build_id} ended is not kept" in finding["sentence"]

    def test_new_reports_are_judged_without_those_that_went(self):
        self.report()
        self.run_command()
        self.report(0)
        assert TestResult.objects.get().case.judged.runs == 1
