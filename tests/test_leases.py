"""Leases, on two connections at once."""

import threading
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.deployments.models import Deployment
from apps.leases import LeaseLost, release_all, take, take_several, wake
from tests.factories import make_deployment, make_environment
from tests.races import all_at_once

HALF_A_MINUTE = timedelta(seconds=30)


def take_one(owner="one", duration=HALF_A_MINUTE):
    return take(Deployment.objects.all(), owner=owner, duration=duration)


def expire(deployment):
    Deployment.objects.filter(pk=deployment.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


@pytest.mark.django_db
class TestOneAtATime:
    def test_a_leased_row_is_not_given_out_again(self):
        make_deployment()
        assert take_one("one") is not None
        assert take_one("two") is None

    def test_of_rows_that_are_free_alike_the_first_by_the_order_comes_first(self):
        last, first = (
            make_deployment(make_environment(slug="staging", position=position)) for position in (2, 1)
        )
        order = {"owner": "one", "duration": HALF_A_MINUTE, "order": "environment__position"}
        assert [take(Deployment.objects.all(), **order).pk for _ in range(2)] == [first.pk, last.pk]

    def test_one_that_rested_does_not_starve_for_its_place_in_the_order(self):
        last, first = (
            make_deployment(make_environment(slug="staging", position=position)) for position in (2, 1)
        )
        for deployment, seconds in ((last, 20), (first, 10)):
            ago = timezone.now() - timedelta(seconds=seconds)
            Deployment.objects.filter(pk=deployment.pk).update(lease_until=ago)
        lease = take(
            Deployment.objects.all(), owner="one", duration=HALF_A_MINUTE, order="environment__position"
        )
        assert lease.pk == last.pk

    def test_a_released_row_is(self):
        make_deployment()
        take_one("one").release()
        assert take_one("two") is not None

    def test_a_row_that_rests_is_not_until_it_is_woken(self):
        make_deployment()
        take_one().release(rest=timedelta(minutes=1))
        assert take_one() is None
        assert wake(Deployment.objects.all()) == 1
        assert take_one() is not None

    def test_a_row_that_is_worked_on_is_not_woken(self):
        make_deployment()
        take_one("one")
        assert wake(Deployment.objects.all()) == 0
        assert take_one("two") is None

    def test_after_its_time_another_takes_over_and_the_first_can_write_nothing(self):
        deployment = make_deployment()
        first = take_one("one")
        expire(deployment)
        # The same name, as a worker may have: the fence tells them apart.
        second = take_one("one")
        assert second.fence == first.fence + 1
        for write in (lambda: first.update(error_code="x"), first.renew, first.hold):
            with pytest.raises(LeaseLost), transaction.atomic():
                write()
        first.release()
        second.update(error_code="y")
        deployment.refresh_from_db()
        assert deployment.error_code == "y"

    def test_a_lease_that_ran_out_is_lost_even_if_nobody_took_it(self):
        deployment = make_deployment()
        lease = take_one()
        expire(deployment)
        with pytest.raises(LeaseLost):
            lease.update(error_code="x")

    def test_renewing_begins_its_duration_again(self):
        deployment = make_deployment()
        lease = take_one(duration=timedelta(hours=1))
        Deployment.objects.update(lease_until=timezone.now() + timedelta(seconds=5))
        lease.renew(error_code="x")
        deployment.refresh_from_db()
        assert deployment.lease_until > timezone.now() + timedelta(minutes=59)
        assert deployment.error_code == "x"

    def test_rows_take_turns(self):
        rows = [make_deployment() for _ in range(3)]
        seen = []
        for _ in range(6):
            lease = take_one()
            seen.append(lease.pk)
            lease.release(rest=timedelta(microseconds=1))
        assert sorted(seen[:3]) == sorted(seen[3:]) == [row.pk for row in rows]


@pytest.mark.django_db
class TestSeveral:
    def take_two(self):
        return take_several(Deployment.objects.all(), owner="one", duration=HALF_A_MINUTE, limit=2)

    def test_as_many_as_are_wanted_are_leased_and_given_back_together(self):
        rows = [make_deployment() for _ in range(3)]
        leases = self.take_two()
        assert [lease.pk for lease in leases] == [row.pk for row in rows[:2]]
        for lease in leases:
            lease.update(error_code="x")
        assert take_one("two").pk == rows[2].pk
        release_all(leases, rest=timedelta(minutes=1))
        assert take_one("two") is None
        assert wake(Deployment.objects.all()) == 2

    def test_what_another_took_over_is_not_given_back(self):
        row, other = make_deployment(), make_deployment()
        leases = self.take_two()
        expire(row)
        take_one("one")
        release_all(leases)
        assert take_one("two").pk == other.pk
        assert take_one("two") is None

    def test_none_are_none(self):
        assert self.take_two() == []
        release_all([])


@pytest.mark.integration
@pytest.mark.django_db(transaction=True)
class TestSideBySide:
    def test_each_row_goes_to_one_worker(self):
        for _ in range(20):
            make_deployment()
        taken = []

        def work(index):
            while lease := take_one(f"worker-{index}"):
                taken.append(lease.pk)

        all_at_once(*(partial(work, index) for index in range(4)))
        assert len(taken) == len(set(taken)) == 20

    def test_holding_keeps_a_takeover_out_until_the_end_of_the_transaction(self):
        deployment = make_deployment()
        lease = take_one("one", duration=timedelta(seconds=1))
        held, checked, others = threading.Event(), threading.Event(), []

        def work(index):
            if index == 0:
                with transaction.atomic():
                    lease.hold()
                    held.set()
                    checked.wait(20)
                    Deployment.objects.filter(pk=deployment.pk).update(error_code="one")
                return
            held.wait(20)
            # Its time runs out while it is held; nobody gets it.
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(1.2)")
            others.append(take_one("two"))
            checked.set()

        all_at_once(partial(work, 0), partial(work, 1))
        assert others == [None]
        assert take_one("two") is not None
