"""How well environments are and how long releases were well in them, from deployments and their hosts."""

from datetime import datetime, timedelta

from django.test import TestCase

from apps.deployments.models import Deployment
from apps.promotions.facts import gather
from tests.factories import LONG_AGO, make_deployment, make_occupancy, make_target
from tests.promotions.cast import Cast


def at(minutes: float) -> datetime:
    return LONG_AGO + timedelta(minutes=minutes)


class HealthCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.cast = Cast()
        cls.release, cls.other = cls.cast.release(), cls.cast.release()

    def deploy(self, release, begin, end, *hosts, status="succeeded", where=None, **fields):
        """A deployment between two minutes, with what became of each host; two that succeeded by default."""
        deployment = make_deployment(
            where or self.cast.staging,
            release or self.release,
            status=status,
            started_at=at(begin),
            finished_at=None if end is None else at(end),
            **fields,
        )
        if release is None:
            Deployment.objects.filter(pk=deployment.pk).update(release=None)
        for number, host in enumerate(hosts or ("Succeeded", "Succeeded")):
            make_target(deployment, f"host-{number}", status=host)
        return deployment

    def arrive(self, release, begin, end, **fields):
        """A deployment with success: from its end on, its release is what runs there."""
        deployment = self.deploy(release, begin, end, **fields)
        deployment.environment.occupancies.current().update(until=at(end))
        make_occupancy(deployment, since=at(end))
        return deployment

    def upstream(self):
        (upstream,) = gather(release=self.release, environment=self.cast.production).upstreams
        return upstream

    def stays(self):
        """Each in minutes."""
        return [
            tuple(
                None if each is None else (each - LONG_AGO).total_seconds() / 60
                for each in (stay.since, stay.until)
            )
            for stay in self.upstream().stays
        ]

    def state(self):
        health = self.upstream().health
        return health.state, (health.since - LONG_AGO).total_seconds() / 60


class StayTests(HealthCase):
    def test_it_lasts_from_its_arrival(self):
        assert self.stays() == []
        self.arrive(self.release, 0, 10)
        assert self.stays() == [(10, None)]

    def test_it_ends_when_another_release_begins_to_replace_it(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 30, None, "Succeeded", "InProgress", status="running")
        assert self.stays() == [(10, 30)]

    def test_it_is_kept_when_the_release_leaves(self):
        self.arrive(self.release, 0, 10)
        self.arrive(self.other, 30, 40)
        assert self.stays() == [(10, 30)]
        self.arrive(self.release, 50, 60)
        assert self.stays() == [(10, 30), (60, None)]

    def test_promotions_back_to_back_leave_no_more_than_there_was(self):
        self.arrive(self.release, 0, 10)
        self.arrive(self.other, 10, 20)
        assert self.stays() == [(10, 10)]

    def test_a_failure_ends_it_also_where_the_release_is_still_current(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 30, 40, "Failed", "Skipped", status="failed")
        assert self.stays() == [(10, 30)]
        # What was well before does not come back by itself.
        assert self.upstream().until is None

    def test_a_stranger_ends_it(self):
        self.arrive(self.release, 0, 10)
        self.deploy(None, 30, 40)
        assert self.stays() == [(10, 30)]

    def test_success_on_some_hosts_only_ends_it(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.release, 30, 40, "Succeeded", "Failed")
        assert self.stays() == [(10, 30)]

    def test_the_same_release_again_does_not_break_it(self):
        self.arrive(self.release, 0, 10)
        again = self.deploy(self.release, 30, None, "InProgress", "Pending", status="running")
        assert self.stays() == [(10, None)]
        again.delete()
        self.arrive(self.release, 30, 40)
        assert self.stays() == [(10, None)]
        self.arrive(self.other, 60, 70)
        assert self.stays() == [(10, 60)]

    def test_the_same_release_again_begins_a_new_one_after_a_failure(self):
        # As CodeDeploy's own rollback does, by which the release stays current all the time.
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 30, 40, "Failed", "Skipped", status="failed")
        self.deploy(self.release, 50, 60)
        assert self.stays() == [(10, 30), (60, None)]
        self.deploy(self.release, 70, 80, "Succeeded", "Failed", status="failed")
        assert self.stays() == [(10, 30), (60, 70)]
        self.arrive(self.other, 90, 100)
        assert self.stays() == [(10, 30), (60, 70)]

    def test_new_hosts_neither_break_nor_heal_it_unless_they_fail(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.release, 20, 25, "Succeeded", origin="auto_scaling")
        assert self.stays() == [(10, None)]
        self.deploy(self.other, 30, 40, "Failed", "Skipped", status="failed")
        self.deploy(self.release, 50, 60, "Succeeded", origin="auto_scaling")
        assert self.stays() == [(10, 30)]
        self.arrive(self.release, 70, 80)
        self.deploy(self.release, 90, 95, "Failed", status="failed", origin="auto_scaling")
        assert self.stays() == [(10, 30), (80, 90)]

    def test_the_same_release_that_fails_breaks_it(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.release, 30, 40, "Failed", "Succeeded", status="failed")
        assert self.stays() == [(10, 30)]
        self.arrive(self.release, 50, 60)
        assert self.stays() == [(10, 30), (60, None)]

    def test_what_reached_no_host_is_nothing(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 30, 40, "Pending", "Skipped", status="stopped")
        make_deployment(
            self.cast.staging, self.other, status="failed", codedeploy_id=None, finished_at=at(50)
        )
        make_deployment(self.cast.staging, self.other, status="intended", codedeploy_id=None)
        assert self.stays() == [(10, None)]

    def test_other_environments_do_not_matter(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 30, 40, "Failed", status="failed", where=self.cast.production)
        assert self.stays() == [(10, None)]

    def test_a_deployment_of_unknown_hosts_ends_it(self):
        self.arrive(self.release, 0, 10)
        make_deployment(self.cast.staging, self.other, status="failed", started_at=at(30), finished_at=at(40))
        assert self.stays() == [(10, 30)]

    def test_one_that_was_under_way_when_it_arrived_leaves_it_no_time(self):
        # A foreign one, found late.
        self.arrive(self.release, 0, 10)
        self.deploy(None, 5, 15)
        assert self.stays() == [(10, 10)]


class StateTests(HealthCase):
    def test_nothing_there_is_empty(self):
        assert self.upstream().health.state == "empty"

    def test_success_on_every_host_is_healthy(self):
        self.arrive(self.release, 0, 10)
        assert self.state() == ("healthy", 10)
        assert self.upstream().health.reason.endswith("succeeded on all 2 hosts.")

    def test_what_came_by_no_known_deployment_is_unknown(self):
        make_occupancy(make_deployment(self.cast.staging, self.release))
        assert self.upstream().health.state == "unknown"

    def test_under_way_is_changing(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 30, None, "InProgress", "Pending", status="running")
        assert self.state() == ("changing", 30)

    def test_a_failure_everywhere_is_unhealthy(self):
        self.arrive(self.release, 0, 10)
        failed = self.deploy(self.other, 30, 40, "Failed", "Skipped", status="failed")
        assert self.state() == ("unhealthy", 40)
        assert self.upstream().health.deployment_id == failed.pk
        assert "succeeded on 0 of 2 hosts" in self.upstream().health.reason

    def test_a_failure_on_some_hosts_is_mixed(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 30, 40, "Succeeded", "Failed", status="failed")
        assert self.state() == ("mixed", 40)

    def test_success_that_is_none_everywhere_is_mixed(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 30, 40, "Succeeded", "Failed")
        assert self.state() == ("mixed", 40)

    def test_a_failure_of_what_runs_there_anyway_is_unhealthy(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.release, 30, 40, "Succeeded", "Failed", status="failed")
        assert self.state() == ("unhealthy", 40)

    def test_a_stranger_is_unknown(self):
        self.arrive(self.release, 0, 10)
        self.deploy(None, 30, 40)
        assert self.state() == ("unknown", 40)

    def test_hosts_of_another_release_than_runs_are_mixed(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 30, 40, "Succeeded")
        assert self.state() == ("mixed", 40)

    def test_what_reached_no_host_changes_nothing(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 30, 40, "Pending", "Pending", status="stopped")
        assert self.state() == ("healthy", 10)

    def test_the_next_success_heals(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 30, 40, "Failed", "Skipped", status="failed")
        self.arrive(self.release, 50, 60)
        assert self.state() == ("healthy", 60)

    def test_new_hosts_that_are_well_tell_nothing_of_the_others(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.release, 20, 25, "Succeeded", origin="auto_scaling")
        assert self.state() == ("healthy", 10)
        self.deploy(self.other, 30, 40, "Failed", "Skipped", status="failed")
        self.deploy(self.release, 50, 60, "Succeeded", origin="auto_scaling")
        assert self.state() == ("unhealthy", 40)
        self.arrive(self.release, 70, 80)
        self.deploy(self.release, 90, 95, "Failed", status="failed", origin="auto_scaling")
        assert self.state() == ("unhealthy", 95)

    def test_new_hosts_with_another_release_are_mixed(self):
        self.arrive(self.release, 0, 10)
        self.deploy(self.other, 20, 25, "Succeeded", origin="auto_scaling")
        assert self.state() == ("mixed", 25)

    def test_the_environment_itself_is_looked_at_too(self):
        self.arrive(self.other, 0, 10, where=self.cast.production)
        facts = gather(release=self.release, environment=self.cast.production)
        assert (facts.health.state, facts.upstreams[0].health.state) == ("healthy", "empty")
