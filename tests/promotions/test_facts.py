import json
from datetime import timedelta
from unittest.mock import patch

from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.builds.models import Quarantine, Report
from apps.catalog.groups import add_to_group, register_group, remove_from_group
from apps.deployments.models import Deployment
from apps.gates.facts import Facts, WayBackFact
from apps.ledger.hashing import plain
from apps.promotions import comparing
from apps.promotions.facts import Subject, fact_of, gather, gather_all
from apps.promotions.failing import FAILURES_TOLD
from apps.promotions.models import Approval, Promotion
from apps.promotions.remembered import forget
from apps.promotions.services import approve_promotion
from apps.releases.migration_source import Step
from tests.builds.outcomes import case, evidence, report, write
from tests.factories import (
    make_build,
    make_deployment,
    make_environment,
    make_group,
    make_member,
    make_occupancy,
    make_override,
    make_pin,
    make_promotion,
    make_quarantine,
    make_release,
    make_report,
    make_result,
    make_service,
    make_target,
    make_veto,
    make_window,
)
from tests.promotions.cast import Cast

QUERIES = 13
OF_FAILURES = 3  # more: the first of them, their names, and which are quarantined
OF_STEPS = 1  # more: the migrations of what runs and of what is judged


class GatherTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.build = make_build(cls.cast.service)
        cls.release = make_release(cls.cast.service, build=cls.build)
        cls.cast.policy(cls.cast.production, "approved")
        cls.promotion = cls.cast.request(cls.release, cls.cast.production)

    def gather(self):
        return gather(release=self.release, environment=self.cast.production, promotion=self.promotion)

    def test_it_tells_of_build_reports_and_failing_tests(self):
        unit = make_report(self.build, name="unit", passed=8, failed=1, errors=1, skipped=1)
        make_result(unit, name="test_red", message="x" * 1000)
        make_result(unit, name="test_err", status="ERROR")
        make_result(unit, name="test_skipped", status="SKIPPED")
        facts = self.gather()
        assert facts.build.codebuild_id == self.build.codebuild_id
        assert facts.build.deviations == ()
        (told,) = facts.reports
        assert (told.failed, told.errors, told.parsed, told.complete) == (1, 1, 11, True)
        assert [failure.name for failure in facts.failures] == [
            "tests.test_example::test_red",
            "tests.test_example::test_err",
        ]
        assert len(facts.failures[0].message) == 300

    def test_a_quarantine_excuses_only_while_it_is_in_force(self):
        unit = make_report(self.build, name="unit", failed=3)
        began = timezone.now() - timedelta(days=3)
        make_quarantine(make_result(unit, name="test_kept").case)
        over = make_quarantine(make_result(unit, name="test_over").case)
        lifted = make_quarantine(make_result(unit, name="test_lifted").case)
        Quarantine.objects.filter(pk=over.pk).update(created_at=began, until=began + timedelta(days=2))
        Quarantine.objects.filter(pk=lifted.pk).update(lifted_at=timezone.now())
        assert [each.name for each in self.gather().quarantines] == ["tests.test_example::test_kept"]

    def test_a_failure_whose_test_is_gone_is_only_counted(self):
        unit = make_report(self.build, name="unit", failed=2)
        make_result(unit, name="test_red")
        gone = make_result(unit, name="test_gone").case
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM builds_testcase WHERE id = %s", [gone.pk])
        facts = self.gather()
        assert [failure.name for failure in facts.failures] == ["tests.test_example::test_red"]
        assert facts.reports[0].failed == 2

    def test_it_tells_the_last_stay_upstream(self):
        first = make_occupancy(make_deployment(self.cast.staging, self.release))
        first.until = first.since
        first.save()
        second = make_occupancy(make_deployment(self.cast.staging, self.release))
        (upstream,) = self.gather().upstreams
        assert upstream.deployment_id == second.deployment_id
        assert upstream.until is None

    def test_it_tells_what_runs_there_with_its_evidence(self):
        assert self.gather().running is None
        before = make_release(self.cast.service)
        make_report(before.build, name="unit", passed=7)
        make_report(self.build, name="unit", passed=8)
        gone = make_occupancy(make_deployment(self.cast.production, make_release(self.cast.service)))
        gone.until = gone.since
        gone.save()
        occupancy = make_occupancy(make_deployment(self.cast.production, before))
        make_occupancy(make_deployment(self.cast.staging, self.release))
        facts = self.gather()
        assert (facts.running.version, facts.running.since) == (before.version, occupancy.since)
        assert [(each.name, each.passed) for each in facts.running.reports] == [("unit", 7)]
        assert [(each.name, each.passed) for each in facts.reports] == [("unit", 8)]

    def test_it_compares_the_tests_with_those_of_what_runs(self):
        assert self.gather().comparisons is None
        before = make_release(self.cast.service)
        report(before.build, "ppfp")
        report(before.build, "p", group="e2e")
        make_occupancy(make_deployment(self.cast.production, before))
        report(self.build, "pff")
        facts = self.gather()
        assert [(each.group, each.new_failures, each.vanished) for each in facts.comparisons] == [
            ("e2e", 0, 1),
            ("unit", 1, 1),
        ]
        assert facts.comparisons[1].first_new_failures == ("C::b",)
        assert facts.comparisons[1].first_vanished == ("C::d",)
        assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts
        # Once for these reports: 1: how tests ended  2: names  3: the first failures  4: their names
        report(self.build, "f", group="late")
        with CaptureQueriesContext(connection) as first:
            assert self.gather().comparisons[1].new_failures == 1
        with self.assertNumQueries(len(first) - 4):
            assert self.gather().comparisons[1].new_failures == 1

    def test_what_does_not_fit_into_memory_together_is_compared_one_after_the_other(self):
        before = make_release(self.cast.service)
        report(before.build, "pp")
        make_occupancy(make_deployment(self.cast.production, before))
        releases = [self.cast.release() for _ in range(3)]
        for release in releases:
            release.build.reports.all().delete()
            report(release.build, "pf")
        subjects = [Subject(release.pk, self.cast.production.pk) for release in releases]
        told = [facts.comparisons for facts in gather_all(subjects)]
        assert [each.new_failures for (each,) in told] == [1, 1, 1]
        with CaptureQueriesContext(connection) as together:
            forget()
            gather_all(subjects)
        with (
            patch.object(comparing, "CASES_AT_ONCE", 5),
            self.assertNumQueries(len(together) + 4),
        ):
            forget()
            assert [facts.comparisons for facts in gather_all(subjects)] == told

    def test_a_report_that_somebody_sent_hides_no_test_that_is_gone(self):
        before = make_release(self.cast.service)
        report(before.build, "pp")
        make_occupancy(make_deployment(self.cast.production, before))
        own, more = evidence(self.build, case("a")), evidence(self.build, case("a"), case("b"))
        _, sent = write(self.build, own, more)
        Report.objects.filter(pk=sent.pk).update(source="asserted", asserted_by=self.cast.ann, arn=None)
        (told,) = self.gather().comparisons
        assert told.first_vanished == ("C::b",)

    def test_reports_whose_tests_are_not_kept_are_not_compared(self):
        make_report(self.build)
        before = make_release(self.cast.service)
        report(before.build, "p")
        make_occupancy(make_deployment(self.cast.production, before))
        (told,) = self.gather().comparisons
        assert told.problem == f"How the tests of unit of build {self.build.pk} ended is not kept."

    def test_a_release_that_runs_there_has_one_evidence(self):
        make_report(self.build)
        make_occupancy(make_deployment(self.cast.production, self.release))
        facts = self.gather()
        assert facts.running.release_id == self.release.pk
        assert len(facts.reports) == 1
        assert facts.running.reports == facts.reports

    def test_it_tells_of_a_promotion_on_its_way_upstream(self):
        coming = make_promotion(self.cast.staging, self.release)
        (upstream,) = self.gather().upstreams
        assert (upstream.since, upstream.promotion_id) == (None, coming.pk)

    def test_it_tells_who_approved_and_who_could(self):
        approve_promotion(promotion=self.promotion, user=self.cast.ben)
        self.cast.cem.is_active = False
        self.cast.cem.save()
        facts = self.gather()
        (approval,) = facts.approvals
        assert (approval.user.username, approval.approved, approval.counts) == ("ben", True, True)
        assert [person.username for person in facts.approvers] == ["ben", "dan"]
        assert facts.promotion.requested_by.username == "ann"

    def test_it_tells_which_groups_people_are_in_now(self):
        for name in ("security", "dba"):
            group = register_group(service=self.cast.service, name=name)
            add_to_group(group=group, user=self.cast.ben)
        approve_promotion(promotion=self.promotion, user=self.cast.ben)
        facts = self.gather()
        assert facts.approvals[0].user.groups == ("dba", "security")
        assert [person.groups for person in facts.approvers] == [("dba", "security"), (), ()]
        remove_from_group(group=group, user=self.cast.ben)
        assert self.gather().approvals[0].user.groups == ("security",)

    def test_it_tells_what_the_migrations_leave_of_the_way_back(self):
        nothing = self.gather()
        assert (nothing.way_back.level, nothing.way_back.running) == ("reversible", "")
        drop = Step("shop", "0002_drop", "one_way", "RemoveField order.total")
        first = Step("shop", "0001_initial", "reversible").to_json()
        running = make_release(self.cast.service, steps=[first])
        make_occupancy(make_deployment(self.cast.production, running))
        self.release.steps = [first, drop.to_json()]
        self.release.save()
        facts = self.gather()
        assert facts.way_back == WayBackFact(
            "one_way", "shop.0002_drop", "RemoveField order.total", running.version
        )
        assert facts.schema.level == "reversible"

    def test_it_tells_that_the_database_has_left_a_release_behind(self):
        drop = Step("shop", "0002_drop", "one_way", "RemoveField order.total")
        first = Step("shop", "0001_initial", "reversible").to_json()
        running = make_release(self.cast.service, steps=[first, drop.to_json()])
        make_occupancy(make_deployment(self.cast.production, running))
        self.release.steps = [first]
        self.release.save()
        facts = self.gather()
        assert facts.way_back.level == "reversible"
        assert (facts.schema.level, facts.schema.migration) == ("one_way", "shop.0002_drop")

    def test_what_failed_there_has_left_its_migrations(self):
        first = Step("shop", "0001_initial", "reversible").to_json()
        drop = Step("shop", "0002_drop", "one_way", "RemoveField order.total")
        running = make_release(self.cast.service, steps=[first])
        failed = make_release(self.cast.service, steps=[first, drop.to_json()])
        self.release.steps = [first]
        self.release.save()
        make_deployment(self.cast.production, failed, status=Deployment.Status.FAILED)
        assert self.gather().schema == WayBackFact(
            "one_way", "shop.0002_drop", "RemoveField order.total", failed.version
        )
        # What came to run there after it was judged by the same rule, and went on.
        make_occupancy(make_deployment(self.cast.production, running))
        assert self.gather().schema == WayBackFact("reversible", "", "", running.version)
        deployment = make_deployment(self.cast.production, failed, status=Deployment.Status.RUNNING)
        assert (self.gather().schema.level, self.gather().schema.running) == ("one_way", failed.version)
        # Nobody has told CodeDeploy of it yet.
        deployment.status, deployment.codedeploy_id = Deployment.Status.INTENDED, None
        deployment.save()
        assert self.gather().schema.level == "reversible"

    def test_what_is_no_release_may_have_migrated(self):
        foreign = make_deployment(self.cast.production, origin="outside", codedeploy_id="d-FOREIGN")
        Deployment.objects.filter(pk=foreign.pk).update(release=None)
        facts = self.gather()
        assert facts.schema == WayBackFact(
            "unknown", "", "it brought something that is no release known here", "d-FOREIGN"
        )
        assert (facts.way_back.level, facts.way_back.running) == ("reversible", "")
        make_occupancy(make_deployment(self.cast.production, self.release))
        assert self.gather().schema.level == "reversible"

    def test_a_release_whose_migrations_were_not_read_is_unknown(self):
        make_occupancy(make_deployment(self.cast.production, make_release(self.cast.service)))
        self.release.steps = None
        self.release.save()
        facts = self.gather()
        assert (facts.way_back.level, facts.schema.level) == ("unknown", "unknown")

    def test_what_it_gathers_survives_json(self):
        make_report(self.build)
        make_occupancy(make_deployment(self.cast.staging, self.release))
        running = make_deployment(self.cast.production, make_release(self.cast.service))
        make_report(running.release.build)
        make_occupancy(running)
        approve_promotion(promotion=self.promotion, user=self.cast.ben)
        facts = self.gather()
        assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts
        # As the ledger wants it of what it has a digest of.
        assert plain(facts.to_json()) == facts.to_json()

    def test_it_tells_the_windows_of_the_environment(self):
        make_window(self.cast.staging)
        window = make_window(self.cast.production, name="nights")
        assert self.gather().windows == (window.fact(),)
        assert window.fact().id == window.pk

    def test_the_number_of_queries_does_not_grow(self):
        # 1: release, build and service  2: upstreams  3: environments with their last deployments
        # 4: what runs there  5: what was brought there in vain  6: members  7: reports
        # 8: occupancies upstream  9: what is on its way  10: windows  11: vetoes
        # 12: promotion and requester  13: approvals  14: overrides
        make_target(make_deployment(self.cast.staging))
        with self.assertNumQueries(QUERIES):
            self.gather()
        before = make_release(self.cast.service)
        make_occupancy(make_deployment(self.cast.production, before))
        for group in ("one", "two", "three"):
            report(before.build, "pp", group=group)
            report(self.build, "ff", group=group)
        for number in range(30):
            made = make_report(self.build, name=f"group-{number}", failed=2)
            make_result(made)
            make_quarantine(make_result(made).case)
        for number in range(5):
            source = make_environment(self.cast.service, f"test-{number}")
            self.cast.production.upstreams.add(source)
            deployment = make_deployment(source, self.release)
            make_target(deployment)
            make_occupancy(deployment)
            approver = make_member(self.cast.service, "approver")
            add_to_group(
                group=register_group(service=self.cast.service, name=f"group-{number}"), user=approver
            )
            approve_promotion(promotion=self.promotion, user=approver)
            make_override(self.promotion)
        make_pin(self.cast.production, self.release)
        make_veto(self.release)
        make_veto(self.release, self.cast.production)
        make_window(self.cast.production)
        # And two more: how both builds' tests ended, and names of those that changed.
        forget()
        with self.assertNumQueries(QUERIES + OF_FAILURES + OF_STEPS + 2) as queries:
            facts = self.gather()
        # Once it has read what does not change, it asks only which of the failures are quarantined now.
        with self.assertNumQueries(QUERIES + 1):
            assert self.gather() == facts
        assert not any('"manifest"' in query["sql"] for query in queries)
        assert len(facts.reports) == 33
        assert [each.new_failures for each in facts.comparisons][-3:] == [2, 2, 2]
        assert len(facts.failures) == FAILURES_TOLD
        assert len(facts.quarantines) == 30
        assert len(facts.upstreams) == 6
        assert len(facts.approvals) == 5
        assert len(facts.vetoes) == 2
        assert len(facts.windows) == 1
        assert len(facts.overrides) == 5

    def test_it_tells_of_overrides_and_whether_they_count(self):
        olga, omar = self.cast.olga, self.cast.omar
        withdrawn = {"withdrawn_at": timezone.now(), "withdrawn_by": olga}
        make_override(self.promotion, by=olga, **withdrawn)
        seconded = {"seconded_by": omar, "seconded_at": timezone.now()}
        first = make_override(self.promotion, by=olga, rules=["approved"], **seconded)
        second = make_override(self.promotion, by=omar)
        third = make_override(self.promotion, by=self.cast.ann)
        told = self.gather().overrides
        assert [(each.id, each.rules, each.counts) for each in told] == [
            (first.pk, ("approved",), True),
            (second.pk, (), True),
            (third.pk, (), False),
        ]
        assert told[0].seconded_by.username == "omar"
        omar.is_active = False
        omar.save()
        assert [each.counts for each in self.gather().overrides] == [False, False, False]

    def test_it_tells_what_is_pinned_and_vetoed_here(self):
        elsewhere = make_pin(self.cast.staging, self.release)
        make_pin(self.cast.production, self.release, lifted_at=timezone.now())
        make_veto(self.release, self.cast.staging)
        make_veto(self.cast.release(), self.cast.production)
        lifted = {"lifted_at": timezone.now(), "lifted_by": self.cast.ben}
        make_veto(self.release, self.cast.production, **lifted)
        facts = self.gather()
        assert (facts.pin, facts.vetoes) == (None, ())
        pin = make_pin(self.cast.production, elsewhere.release, by=self.cast.ben, reason="Stay.")
        here = make_veto(self.release, self.cast.production, by=self.cast.ben)
        everywhere = make_veto(self.release, by=self.cast.ben)
        facts = self.gather()
        assert (facts.pin.id, facts.pin.version, facts.pin.reason) == (pin.pk, self.release.version, "Stay.")
        assert facts.pin.by.username == "ben"
        assert [(each.id, each.environment) for each in facts.vetoes] == [
            (here.pk, "production"),
            (everywhere.pk, ""),
        ]

    def test_it_tells_of_the_newest_release_that_is_ahead(self):
        assert self.gather().superseded_by is None
        make_occupancy(make_deployment(self.cast.staging, self.cast.release()))
        assert self.gather().superseded_by is None
        runs = self.cast.release()
        make_occupancy(make_deployment(self.cast.production, runs))
        ahead = self.gather().superseded_by
        assert (ahead.release_id, ahead.version, ahead.promotion_id) == (runs.pk, runs.version, None)
        waits = make_promotion(self.cast.production, self.cast.release())
        ahead = self.gather().superseded_by
        assert (ahead.release_id, ahead.promotion_id) == (waits.release_id, waits.pk)
        Promotion.objects.filter(pk=waits.pk).update(status="cancelled")
        assert self.gather().superseded_by.release_id == runs.pk
        # For the newest, older ones do not matter.
        newest = gather(release=waits.release, environment=self.cast.production)
        assert newest.superseded_by is None


class GatherAllTests(TestCase):
    """Each of several is told what it would be told alone."""

    @classmethod
    def setUpTestData(cls):
        cls.promotions = [cls.make_world(f"world-{number}") for number in range(3)]
        # And two that share an environment.
        shared = cls.promotions[0]
        cls.promotions.append(make_promotion(shared.environment, make_release(shared.environment.service)))

    @staticmethod
    def make_world(slug):
        service = make_service(slug)
        staging, test = make_environment(service, "staging"), make_environment(service, "test")
        production = make_environment(service, "production", upstreams=(staging, test))
        people = [make_member(service, "approver", username=f"{slug}-{each}") for each in range(2)]
        make_group(service, f"{slug}-managers", people[0])
        build = make_build(service)
        release = make_release(build=build)
        for name in ("unit", "end-to-end"):
            report = make_report(build, name=name, failed=15)
            for _ in range(15):
                result = make_result(report, message=slug)
            make_quarantine(result.case, reason=f"{slug} {name}")
        deployed = make_deployment(staging, release)
        make_target(deployed, slug)
        make_occupancy(deployed)
        runs = make_release(service)
        make_report(runs.build, name=slug)
        make_occupancy(make_deployment(production, runs))
        make_promotion(test, release)
        promotion = make_promotion(production, release)
        Approval.objects.create(promotion=promotion, user=people[0], verdict="approved")
        make_pin(production, runs, reason=slug)
        make_veto(release, production, reason=slug)
        make_veto(release, test)
        make_window(production, name=slug)
        return promotion

    def subjects(self, promotions):
        return [Subject(each.release_id, each.environment_id, fact_of(each)) for each in promotions]

    def test_each_is_told_its_own(self):
        together = gather_all(self.subjects(self.promotions))
        alone = [
            gather(release=each.release, environment=each.environment, promotion=each)
            for each in self.promotions
        ]
        assert together == alone
        assert len(set(together)) == len(self.promotions)
        full = together[0]
        assert len(full.failures) == FAILURES_TOLD
        assert all((full.reports, full.upstreams, full.approvals, full.approvers[0].groups))
        assert [report.name for report in full.running.reports] == ["world-0"]
        assert [full.pin.reason, *(veto.reason for veto in full.vetoes)] == ["world-0", "world-0"]
        assert [window.name for window in full.windows] == ["world-0"]
        assert full.superseded_by.promotion_id == self.promotions[-1].pk
        assert [upstream.health.state for upstream in full.upstreams] == ["healthy", "empty"]
        assert [len(upstream.stays) for upstream in full.upstreams] == [1, 0]
        assert full.health.state == "unknown"
        assert {(each.report, each.reason) for each in full.quarantines} == {
            ("unit", "world-0 unit"),
            ("end-to-end", "world-0 end-to-end"),
        }

    def test_several_cost_as_many_queries_as_one(self):
        for count in (1, len(self.promotions)):
            forget()
            # And one more: how the builds' tests ended, which is not kept of any here.
            with self.subTest(count), self.assertNumQueries(QUERIES + OF_FAILURES + OF_STEPS + 1):
                gather_all(self.subjects(self.promotions[:count]))

    def test_several_that_go_back_cost_one_query_more(self):
        for each in self.promotions:
            before = timezone.now() - timedelta(hours=1)
            make_occupancy(make_deployment(each.environment, each.release), since=before, until=before)
        Promotion.objects.update(rollback=True)
        promotions = list(
            Promotion.objects.order_by("pk").filter(pk__in=[each.pk for each in self.promotions])
        )
        gather_all(self.subjects(promotions))
        # When each was there last and what was brought since, instead of what was brought in vain; and which
        # of the failures are quarantined now.
        for count in (1, len(promotions)):
            subjects = self.subjects(promotions[:count])
            with self.subTest(count), self.assertNumQueries(QUERIES + 2):
                gather_all(subjects)

    def test_nobody_need_have_asked(self):
        asked = self.promotions[0]
        (facts,) = gather_all([Subject(asked.release_id, asked.environment_id)])
        assert (facts.promotion, facts.approvals) == (None, ())
