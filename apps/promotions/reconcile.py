"""Move the world towards the rows: small steps, each on one leased row, each safe to be killed in.

A step takes a lease, asks AWS with no transaction open, and writes what it saw if the lease is still its
own. Any number of reconcilers may run side by side; PostgreSQL is what they share.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from django.db import InterfaceError, OperationalError, close_old_connections, connection, models
from django.db.models import Exists, OuterRef
from django.db.models.fields.json import KT

from apps.aws.errors import AwsError
from apps.builds.models import Build
from apps.builds.services import collect_build
from apps.catalog.heads import begin_copies, copy_head
from apps.catalog.models import LedgerCopy, Service
from apps.commands import database_problem
from apps.deployments.flight import read_flight_records
from apps.deployments.foreign import look_for_foreign, watch_groups
from apps.deployments.models import Deployment, FlightWatch, GroupWatch
from apps.deployments.services import ANSWER_WITHIN, observe_deployment, request_deployment
from apps.errors import DomainError
from apps.leases import Leasable, Lease, LeaseLost, release_all, take, take_several
from apps.promotions.automatic import ask_by_itself, due
from apps.promotions.bundles import begin_looks, refresh_look, wants_look, watched_looks
from apps.promotions.models import Promotion, Standing
from apps.promotions.retention import prune_some
from apps.promotions.services import evaluate_promotions, follow_deployment, start_promotion
from apps.promotions.standing import look_for_standings, update_standing, wake_waiting_for
from apps.releases.models import BundleLook, Release
from apps.releases.services import register_release

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=30)
BUILD_POLL = timedelta(seconds=2)
# How many promotions are judged in one transaction, which holds their rows and in the end their chains.
JUDGED_AT_ONCE = 200
# Approvals, deployments and evidence wake what waits for them; this is for all the rest, such as time.
JUDGE_EVERY = timedelta(seconds=5)
# New evidence wakes it, and a new policy within SWEEP_EVERY; this is for who left, and for vetoes.
JUDGE_RUNNING_EVERY = timedelta(minutes=2)
LOOK_EVERY = timedelta(minutes=10)  # at a bundle in S3
LOOK_AGAIN = timedelta(seconds=30)  # after S3 gave no answer
ASK_EVERY = 5.0  # seconds between looks for what environments ask for by themselves
SWEEP_EVERY = 30.0  # seconds between looks for what no row says: unregistered bundles, unwatched environments
PRUNE_EVERY = 3600.0  # seconds between looks for evidence that is not kept any longer
LONGEST_BACKOFF = timedelta(minutes=1)
# Where several environments could start at once.
DEPLOY_ORDER = "environment__position"
DATABASE_BACKOFF = 15.0  # seconds at most


def default_owner() -> str:
    """A name for this worker that no other has, and that tells where it runs."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass
class Reconciler:
    """One worker. ``tick`` does a little of everything; ``run`` ticks until ``stop`` is set."""

    owner: str = field(default_factory=default_owner)
    lease: timedelta = LEASE
    idle: float = 1.0  # seconds to sleep when there was nothing to do
    stop: threading.Event = field(default_factory=threading.Event)
    failures: dict[tuple[str, int], int] = field(default_factory=dict)
    sweep_at: float = 0.0
    look_at: float = 0.0
    bundles_at: float = 0.0
    watch_at: float = 0.0
    ask_at: float = 0.0
    prune_at: float = 0.0

    def run(self) -> None:
        """Work until ``stop`` is set; PostgreSQL may go away and come back meanwhile."""
        away = 0
        while not self.stop.is_set():
            try:
                close_old_connections()
                found = self.tick()
                away = 0
            except (OperationalError, InterfaceError) as error:
                away += 1
                seconds = min(2.0 ** (away - 1), DATABASE_BACKOFF)
                log.error("database away", problem=database_problem(error), next_try_in_seconds=seconds)
                connection.close()
                self.stop.wait(seconds)
                continue
            if not found:
                self.stop.wait(self.idle)

    def tick(self) -> bool:
        """A row of each kind of work, or several; False when there was none at all."""
        found = False
        for step in (
            self.collect_one_build,
            self.register_one_release,
            self.look_at_one_bundle,
            self.ask_for_what_is_proved,
            self.judge_promotions,
            self.judge_one_running_release,
            self.request_one_deployment,
            self.observe_one_deployment,
            self.look_for_foreign_deployments,
            self.read_flight_records_of_one,
            self.copy_one_ledger_head,
            self.prune_some_evidence,
        ):
            if self.stop.is_set():
                break
            found |= step()
        return found

    def collect_one_build(self) -> bool:
        """Read how far a build is and, when it has ended, its evidence and its bundle."""

        def work(build: Build, lease: Lease) -> timedelta:
            collect_build(build=build, lease=lease)
            build.refresh_from_db()
            if build.collected_at is None:
                return BUILD_POLL
            self.sweep_at = 0.0
            wake_waiting_for(build)
            return timedelta(0)

        return self._one(Build.objects.uncollected(), work)

    def register_one_release(self) -> bool:
        """Make a release of the bundle that a build exported, unless it is one already."""
        if time.monotonic() < self.sweep_at:
            return False

        def work(build: Build, lease: Lease) -> timedelta:
            release = register_release(build=build)
            log.info("release registered", release=release.version, build=build.codebuild_id)
            wake_waiting_for(build)
            return timedelta(0)

        found = self._one(unregistered_builds(), work)
        if not found:
            self.sweep_at = time.monotonic() + SWEEP_EVERY
        return found

    def ask_for_what_is_proved(self) -> bool:
        """Ask for a promotion wherever an environment does so by itself; other workers may be at it, too."""
        if time.monotonic() < self.ask_at:
            return False
        self.ask_at = time.monotonic() + ASK_EVERY
        asked = False
        for environment, release in due():
            try:
                promotion = ask_by_itself(environment=environment, release=release)
            except DomainError as error:
                log.warning("could not ask", environment=str(environment), problem=str(error))
                continue
            if promotion is not None:
                asked = True
                log.info("asked by itself", promotion=promotion.pk, release=release.version)
        return asked

    def look_at_one_bundle(self) -> bool:
        """See whether a bundle that waits or runs is still in S3, where a policy asks for that."""
        if time.monotonic() >= self.bundles_at:
            begin_looks()
            self.bundles_at = time.monotonic() + JUDGE_EVERY.total_seconds()

        def work(look: BundleLook, lease: Lease) -> timedelta:
            found = refresh_look(look.release)
            return LOOK_AGAIN if found.failing_since else LOOK_EVERY

        return self._one(watched_looks(), work)

    def judge_promotions(self) -> bool:
        """Judge pending promotions again, and let through whose gate opens if the place is free."""
        pending = Promotion.objects.pending()
        leases = take_several(
            pending, owner=self.owner, duration=self.lease, order=DEPLOY_ORDER, limit=JUDGED_AT_ONCE
        )
        keys = [lease.pk for lease in leases]
        try:
            opens = set(evaluate_promotions(promotions=keys)) if keys else set()
        except Exception as error:
            if isinstance(error, OperationalError | InterfaceError) and not connection.is_usable():
                raise  # PostgreSQL is away
            # The fault of one of them: each by itself then, so that the others go on.
            log.exception("could not judge together", promotions=keys)
            opens = set(keys)

        def work(promotion: Promotion, lease: Lease) -> timedelta:
            if not start_promotion(promotion=promotion) and wants_look(promotion):
                # Between two transactions of the gate, since S3 may take seconds.
                refresh_look(promotion.release)
                lease.renew()
                start_promotion(promotion=promotion)
            return JUDGE_EVERY

        for lease in leases:
            if lease.pk in opens:
                self._work_on(lease, work)
        release_all([lease for lease in leases if lease.pk not in opens], JUDGE_EVERY)
        return bool(leases)

    def judge_one_running_release(self) -> bool:
        """Judge again what runs in an environment: would it still be let in?"""
        if time.monotonic() >= self.look_at:
            look_for_standings()
            self.look_at = time.monotonic() + SWEEP_EVERY

        def work(standing: Standing, lease: Lease) -> timedelta:
            update_standing(standing=standing, lease=lease)
            return JUDGE_RUNNING_EVERY

        return self._one(Standing.objects.all(), work)

    def request_one_deployment(self) -> bool:
        """Tell CodeDeploy about an intent."""

        def work(deployment: Deployment, lease: Lease) -> timedelta:
            return request_deployment(
                deployment=deployment,
                lease=lease,
                moved=follow_deployment,
                grace=ANSWER_WITHIN + self.lease,
            )

        intended = Deployment.objects.filter(status=Deployment.Status.INTENDED)
        return self._one(intended, work, order=DEPLOY_ORDER)

    def observe_one_deployment(self) -> bool:
        """See how far CodeDeploy is."""
        asked = (Deployment.Status.REQUESTED, Deployment.Status.RUNNING)

        def work(deployment: Deployment, lease: Lease) -> timedelta:
            return observe_deployment(deployment=deployment, lease=lease, moved=follow_deployment)

        return self._one(Deployment.objects.filter(status__in=asked), work)

    def look_for_foreign_deployments(self) -> bool:
        """See what somebody else, auto scaling or CodeDeploy itself has deployed to one environment."""
        if time.monotonic() >= self.watch_at:
            watch_groups()
            self.watch_at = time.monotonic() + SWEEP_EVERY

        def work(watch: GroupWatch, lease: Lease) -> timedelta:
            return look_for_foreign(watch=watch, lease=lease)

        return self._one(GroupWatch.objects.all(), work)

    def read_flight_records_of_one(self) -> bool:
        """Read what the hosts of a deployment wrote about it; they upload when they can."""

        def work(watch: FlightWatch, lease: Lease) -> timedelta:
            return read_flight_records(watch=watch, lease=lease)

        return self._one(FlightWatch.objects.open(), work)

    def copy_one_ledger_head(self) -> bool:
        """Put the head of a service's chain where the database's owner cannot change it."""
        begin_copies()

        def work(copy: LedgerCopy, lease: Lease) -> timedelta:
            return copy_head(copy=copy, lease=lease)

        return self._one(LedgerCopy.objects.behind(), work)

    def prune_some_evidence(self) -> bool:
        """Prune a batch of the reports that a service keeps no longer; other workers may be at it, too."""
        if time.monotonic() < self.prune_at:
            return False
        for service in Service.objects.exclude(evidence_days=None).order_by("pk"):
            try:
                pruned = prune_some(service)
            except Exception:
                if not connection.is_usable():
                    raise  # PostgreSQL is away
                log.exception("could not prune", service=service.slug)
                continue
            if pruned:
                log.info("pruned evidence", service=service.slug, reports=pruned)
                return True
        self.prune_at = time.monotonic() + PRUNE_EVERY
        return False

    def _one(self, rows: models.QuerySet, work: Callable[..., timedelta], order: str = "pk") -> bool:
        """Do ``work`` on one free row; False when there is none. A row that fails rests, longer each time."""
        lease = take(rows, owner=self.owner, duration=self.lease, order=order)
        if lease is None:
            return False
        self._work_on(lease, work)
        return True

    def _work_on(self, lease: Lease, work: Callable[..., timedelta]) -> None:
        row: Leasable = lease.model._default_manager.get(pk=lease.pk)
        key = (lease.model._meta.label_lower, lease.pk)
        bound = log.bind(row=f"{key[0]}:{key[1]}")
        try:
            rest = work(row, lease)
        except LeaseLost as error:
            # Another worker goes on from what is written.
            bound.warning("lease lost", problem=str(error))
            return
        except (OperationalError, InterfaceError):
            if not connection.is_usable():
                raise  # PostgreSQL is away, which is not this row's fault
            bound.exception("step failed")
            rest = self._back_off(key)
        except (AwsError, DomainError) as error:
            rest = self._back_off(key)
            bound.warning("step failed", problem=str(error), next_try_in_seconds=rest.total_seconds())
        except Exception:
            # A fault in one row's data or in our code must not stop the work on all others.
            rest = self._back_off(key)
            bound.exception("step failed", next_try_in_seconds=rest.total_seconds())
        else:
            self.failures.pop(key, None)
        lease.release(rest)

    def _back_off(self, key: tuple[str, int]) -> timedelta:
        self.failures[key] = count = self.failures.get(key, 0) + 1
        return min(timedelta(seconds=2 ** min(count, 10)), LONGEST_BACKOFF)


def reconcile_once(reconciler: Reconciler | None = None) -> bool:
    """Do a little of everything that can be done now; False when there was nothing."""
    return (reconciler or Reconciler()).tick()


def unregistered_builds() -> models.QuerySet[Build]:
    """Builds that exported a bundle which is no release yet, or whose release points to an older build."""
    registered = Release.objects.filter(
        service=OuterRef("service"), digest=OuterRef("bundle_sha256"), build__gte=OuterRef("pk")
    )
    return (
        Build.objects.filter(
            collected_at__isnull=False, problem="", exports__has_key="LOCKKEEPER_BUNDLE_SHA256"
        )
        .annotate(bundle_sha256=KT("exports__LOCKKEEPER_BUNDLE_SHA256"))
        .filter(~Exists(registered))
    )
