"""Leases: how several reconcilers share the work without doing a thing twice.

All times are PostgreSQL's, so workers on hosts with different clocks agree.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from django.db import models, transaction
from django.db.models import DurationField, F, Func, Q, Value


class LeaseLost(Exception):
    """Another worker took the row over; what this one saw must not be written."""


class ClockTimestamp(Func):
    """PostgreSQL's clock now; ``Now()`` would be the start of the transaction."""

    function = "clock_timestamp"
    template = "%(function)s()"
    output_field = models.DateTimeField()


def database_time(offset: timedelta = timedelta(0)) -> models.expressions.Combinable:
    """The database's time now, or so much later (earlier, if negative)."""
    return ClockTimestamp() + Value(offset, DurationField())


class Leasable(models.Model):
    """A row that one reconciler at a time may work on."""

    lease_owner = models.CharField(max_length=100, blank=True, editable=False)
    # With an owner: until when it is leased. Without one: the row rests, and nobody takes it before.
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    # Grows with each lease, so a worker that was asleep can see that its lease is gone.
    lease_fence = models.PositiveBigIntegerField(default=0, editable=False)

    class Meta:
        abstract = True


class Lease:
    """The right to write what was seen about one row, until it runs out or is taken over."""

    def __init__(
        self, *, model: type[Leasable], pk: int, fence: int, owner: str, duration: timedelta
    ) -> None:
        self.model, self.pk, self.fence, self.owner, self.duration = model, pk, fence, owner, duration

    def rows(self) -> models.QuerySet:
        """The row, if the lease is still this worker's own; for conditional updates."""
        return self.model._default_manager.filter(
            pk=self.pk, lease_fence=self.fence, lease_owner=self.owner, lease_until__gt=database_time()
        )

    def update(self, **values: object) -> None:
        """Write to the row; raise LeaseLost when the lease is another's by now."""
        if not self.rows().update(**values):
            raise LeaseLost(f"{self.model._meta.label} {self.pk} was taken over")

    def renew(self, **values: object) -> float:
        """Write to the row and hold the lease for its full duration from now on.

        Returns the monotonic time before the write, so that the caller can tell how old its right is.
        """
        before = time.monotonic()
        self.update(lease_until=database_time(self.duration), **values)
        return before

    def hold(self) -> None:
        """Lock the row for the rest of the transaction; raise LeaseLost when it is another's by now."""
        # Evaluated, since .exists() would leave FOR UPDATE out.
        if not list(self.rows().select_for_update(no_key=True, of=("self",)).values_list("pk", flat=True)):
            raise LeaseLost(f"{self.model._meta.label} {self.pk} was taken over")

    def release(self, rest: timedelta = timedelta(0)) -> None:
        """Give the row back; with ``rest`` nobody takes it before so much time has passed."""
        self.rows().update(lease_owner="", lease_until=database_time(rest) if rest else None)


def take(queryset: models.QuerySet, *, owner: str, duration: timedelta, order: str = "pk") -> Lease | None:
    """Lease one free row of ``queryset``; None when none is free. See ``take_several``."""
    return next(iter(take_several(queryset, owner=owner, duration=duration, order=order, limit=1)), None)


def take_several(
    queryset: models.QuerySet, *, owner: str, duration: timedelta, order: str = "pk", limit: int
) -> list[Lease]:
    """Lease up to ``limit`` free rows of ``queryset`` for ``duration``, skipping rows others hold.

    The row that has been free for longest comes first, so none starves; of those that never rested or were
    woken, the one that is first by the lookup ``order``. The leases are committed when this
    returns, so call it outside any transaction.
    """
    free = Q(lease_until=None) | Q(lease_until__lte=database_time())
    model = queryset.model
    with transaction.atomic():
        rows = list(
            queryset.filter(free)
            .order_by(F("lease_until").asc(nulls_first=True), order, "pk")
            .select_for_update(skip_locked=True, no_key=True, of=("self",))
            .values_list("pk", "lease_fence")[:limit]
        )
        if rows:
            model._default_manager.filter(pk__in=[pk for pk, _ in rows]).update(
                lease_owner=owner, lease_until=database_time(duration), lease_fence=F("lease_fence") + 1
            )
    return [Lease(model=model, pk=pk, fence=fence + 1, owner=owner, duration=duration) for pk, fence in rows]


def release_all(leases: Sequence[Lease], rest: timedelta = timedelta(0)) -> None:
    """Give back what ``take_several`` took, as ``Lease.release`` does one."""
    if not leases:
        return
    first = leases[0]
    # Those that were taken equally often together: Django makes a comparison slower than PostgreSQL makes it.
    fences = defaultdict(list)
    for each in leases:
        fences[each.fence].append(each.pk)
    theirs = Q(*(Q(pk__in=keys, lease_fence=fence) for fence, keys in fences.items()), _connector=Q.OR)
    own = first.model._default_manager.filter(
        theirs, lease_owner=first.owner, lease_until__gt=database_time()
    )
    own.update(lease_owner="", lease_until=database_time(rest) if rest else None)


def wake(queryset: models.QuerySet) -> int:
    """Let resting rows be taken at once; rows that are being worked on are left alone."""
    return queryset.filter(lease_owner="", lease_until__isnull=False).update(lease_until=None)
