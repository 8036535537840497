"""Random lives of two environments, held against a model that is too small to be wrong.

PostgreSQL is real; CodeDeploy is replaced at apps.aws. The clock moves by making everything that is written
down older, since leases go by PostgreSQL's. What the gate should say is worked out here anew, so a gate that
is not asked, or asked too early, is found. Real processes that die are in test_crashes.py.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import pytest
from django.db import connection, transaction
from django.db.models import Count, F, Q
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apps.aws.codedeploy import DeploymentInfo
from apps.builds.models import Build
from apps.deployments.models import Deployment, FlightWatch, Occupancy
from apps.deployments.services import description_of
from apps.errors import DomainError
from apps.ledger.models import Entry
from apps.ledger.services import first_broken
from apps.promotions import describe
from apps.promotions.holds import lift_pin, lift_veto, pin_environment, veto_release
from apps.promotions.models import Approval, Override, Pin, Promotion, Veto
from apps.promotions.overrides import override_promotion, withdraw_override
from apps.promotions.reconcile import Reconciler
from apps.promotions.services import (
    approve_promotion,
    cancel_promotion,
    reject_promotion,
    request_promotion,
    withdraw_approval,
)
from apps.promotions.windows import add_window, remove_window
from tests.deployments.fake import BUSY, NO_ANSWER, THROTTLED, FakeCodeDeploy, host
from tests.factories import make_build, make_release, make_report
from tests.promotions.cast import Cast

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]

COUNTS_FOR = timedelta(hours=24)
EVIDENCE_AGE = {"rule": "evidence_age", "parameters": {"maximum_hours": 24}}
# What is older when the clock moves.
TIMES = {
    Build: ("started_at", "finished_at", "collected_at", "created_at", "lease_until"),
    Promotion: ("created_at", "lease_until"),
    Deployment: ("asked_at", "created_at", "started_at", "finished_at", "lease_until"),
    FlightWatch: ("lease_until",),
    Occupancy: ("since", "until"),
    Override: ("created_at", "expires_at", "withdrawn_at"),
    Pin: ("created_at", "expires_at", "lifted_at"),
    Veto: ("created_at", "lifted_at"),
}
# The status that a ledger entry's action gives its subject; others change none.
PROMOTION = {"requested": "pending", "started": "deploying"} | {
    status: status for status in ("verifying", *Promotion.FINAL)
}
UNDER_WAY = {"Created", "InProgress"}
INTERVENTIONS = ["pin", "veto", "shut", "let_go", "let_go", "override", "override"]
OUTCOMES = st.sampled_from(["Succeeded", "Succeeded", "Succeeded", "InProgress", "Failed", "Stopped"])


class Killed(BaseException):
    """A reconciler dies where it stands: no handler of the product may catch it."""


class Paused(BaseException):
    """It is stopped with AWS's answer in its hands, and goes on with it when others have long taken over."""


class CodeDeploy(FakeCodeDeploy):
    """One fault at one of the next calls: before it has an effect, or after."""

    fault: BaseException | None = None
    after: bool = False
    calls_until: int = 0
    meanwhile: Callable[[], None]

    def __init__(self):
        super().__init__()
        for name in ("create_deployment", "get_deployments", "list_deployments", "get_targets"):
            setattr(self, name, self._disturbed(getattr(self, name)))

    def _disturbed(self, call):
        def disturbed(*arguments, **options):
            due = self.fault is not None and self.calls_until == 0
            self.calls_until -= 1
            if not due:
                return call(*arguments, **options)
            fault, self.fault = self.fault, None
            if isinstance(fault, Paused):
                answer = call(*arguments, **options)
                self.meanwhile()
                return answer
            if self.after:
                call(*arguments, **options)
            raise fault

        return disturbed

    def create_deployment(self, *, group, **options):
        # One that the console made; our own twin would not be refused, so that it is seen.
        if any(info.group == group and not info.description for info in self.under_way()):
            raise BUSY
        return super().create_deployment(group=group, **options)

    def under_way(self):
        return [info for info in self.deployments.values() if info.status in UNDER_WAY]

    def deploy_in_the_console(self, environment):
        made = DeploymentInfo(
            id=f"d-{len(self.deployments) + 1:09d}",
            application=environment.application,
            group=environment.deployment_group,
            status="Created",
            description="",
            creator="user",
            created_at=timezone.now(),
            started_at=None,
            completed_at=None,
            error_code="",
            error_message="",
            revision=None,
        )
        self.deployments[made.id] = made

    def move(self, key, outcome):
        event = "Failed" if outcome == "Failed" else "InProgress" if outcome == "InProgress" else "Succeeded"
        self.set(key, outcome, host("staging-1", ("ValidateService", event), status=event))


class Worker(Reconciler):
    """Does what moves promotions; the other steps have tests of their own."""

    def tick(self):
        self.judge_promotions()
        self.request_one_deployment()
        self.observe_one_deployment()


class Life(RuleBasedStateMachine):
    """Every rule is one thing that people, AWS, the clock or a reconciler do."""

    # Over all lives: how promotions ended, with the environment's position, and what befell reconcilers.
    ends: ClassVar[set[tuple[str, int]]] = set()
    met: ClassVar[set[str]] = set()

    def __init__(self):
        super().__init__()
        self.outer = transaction.atomic()
        self.outer.__enter__()
        self.patch = pytest.MonkeyPatch()
        self.aws = CodeDeploy().install(self.patch)
        self.aws.meanwhile = self.go_on_without_one
        self.cast = Cast()
        self.environments = (self.cast.staging, self.cast.production)
        self.needs_approval = {self.cast.production.pk}
        self.cast.policy(self.cast.staging, "built_as_defined", EVIDENCE_AGE, "in_window")
        self.cast.policy(
            self.cast.production,
            "built_as_defined",
            EVIDENCE_AGE,
            "in_window",
            "verified_upstream",
            "approved",
        )
        self.releases = []
        self.changed = {}  # (kind, id) → when that last changed what a gate sees
        self.judged = set()  # intents whose start was checked
        self.started = 0  # reconcilers
        self.reconcilers = [self.start_reconciler() for _ in range(3)]
        self.build_release()

    def teardown(self):
        try:
            self.settle()
        finally:
            self.patch.undo()
            transaction.set_rollback(True)
            self.outer.__exit__(None, None, None)

    # What people and builds do.

    def build_release(self):
        build = make_build(self.cast.service, finished_at=timezone.now())
        make_report(build)
        self.releases.append(make_release(self.cast.service, build=build))

    @rule(what=st.sampled_from(["new", "new", "next", "next", "early"]), dan=st.booleans())
    def request(self, what, dan):
        """A new release in staging, the next one in production, or a new one there, which is too early."""
        if what != "next":
            self.build_release()
        current = Occupancy.objects.current().filter(environment=self.cast.staging).first()
        with suppress(DomainError):
            request_promotion(
                release=current.release if what == "next" and current else self.releases[-1],
                environment=self.cast.staging if what == "new" else self.cast.production,
                requested_by=self.cast.dan if dan else self.cast.ann,
            )

    @precondition(lambda self: self.pending())
    @rule(
        number=st.integers(0, 9),
        who=st.sampled_from(["ben", "cem", "dan"]),
        what=st.sampled_from(["approve", "approve", "approve", "withdraw", "reject", "cancel"]),
    )
    def say(self, number, who, what):
        promotion, user = self.pick(self.pending(), number), getattr(self.cast, who)
        began = timezone.now()
        with suppress(DomainError):
            if what == "cancel":
                cancel_promotion(promotion=promotion, user=promotion.requested_by)
            elif what == "reject":
                reject_promotion(promotion=promotion, user=user, comment="No.")
            else:
                tell = approve_promotion if what == "approve" else withdraw_approval
                tell(promotion=promotion, user=user)
                self.changed["promotion", promotion.pk] = began

    @rule(what=st.sampled_from(INTERVENTIONS), production=st.booleans(), number=st.integers(0, 9))
    def intervene(self, what, production, number):
        with suppress(DomainError):
            getattr(self, what)(self.environments[production], number)

    def pin(self, environment, number):
        pin_environment(
            environment=environment,
            user=self.cast.olga,
            reason="A sale.",
            release=self.pick(self.releases[-3:], number),
            expires_at=timezone.now() + timedelta(hours=1) if number % 2 else None,
        )

    def veto(self, environment, number):
        """Of something that waits, there or everywhere."""
        waiting = [promotion.release for promotion in self.pending()] or self.releases[-1:]
        veto_release(
            release=self.pick(waiting, number),
            user=self.cast.olga,
            reason="It loses orders.",
            environment=None if number % 2 else environment,
        )

    def shut(self, environment, number):
        yesterday = timezone.now() - timedelta(days=1)
        add_window(
            environment=environment,
            kind="deny",
            name="freeze",
            starts_at=f"{yesterday:%Y-%m-%dT%H:%M}",
            timezone="UTC",
            minutes=3 * 24 * 60,
            by=self.cast.olga,
        )

    def let_go(self, environment, number):
        for pin in Pin.objects.standing().filter(environment=environment):
            lift_pin(pin=pin, user=self.cast.olga)
        for veto in Veto.objects.standing():
            lift_veto(veto=veto, user=self.cast.olga)
        for window in environment.windows.all():
            remove_window(window=window, by=self.cast.olga)

    def override(self, environment, number):
        """Let one pass against its gate for a minute, which may be over before a worker comes to it."""
        if not self.pending():
            return
        promotion = self.pick(self.pending(), number)
        began = timezone.now()
        override = override_promotion(
            promotion=promotion, user=self.cast.olga, justification="Now.", minutes=1
        )
        if number > 7:
            withdraw_override(override=override, user=self.cast.omar)
        self.changed["promotion", promotion.pk] = began
        if number % 2:
            self.age(timedelta(minutes=2))

    # What CodeDeploy and the clock do.

    @precondition(lambda self: self.active_in_codedeploy())
    @rule(number=st.integers(0, 9), outcome=OUTCOMES)
    def move_a_deployment(self, number, outcome):
        self.aws.move(self.pick(self.active_in_codedeploy(), number), outcome)

    @rule(
        what=st.sampled_from(
            ["deviation", "stricter", "console", "console", "hidden", "away", "hidden and away", "a day"]
        ),
        production=st.booleans(),
    )
    def have_a_bad_day(self, what, production):
        if what == "deviation":
            # The last build turns out to be another than its project defines.
            build = self.releases[-1].build_id
            self.change("build", build)
            Build.objects.filter(pk=build).update(deviations=["image is another"])
        elif what == "stricter" and self.cast.staging.pk not in self.needs_approval:
            self.change("environment", self.cast.staging.pk)
            self.cast.policy(self.cast.staging, "built_as_defined", EVIDENCE_AGE, "in_window", "approved")
            self.needs_approval.add(self.cast.staging.pk)
        elif what == "console":
            self.aws.deploy_in_the_console(self.environments[production])
        elif what == "a day":
            self.age(timedelta(hours=25))
        else:
            self.aws.hidden, self.aws.away = "hidden" in what, NO_ANSWER if "away" in what else None

    @precondition(lambda self: self.aws.hidden or self.aws.away)
    @rule()
    def have_a_good_day(self):
        self.aws.hidden, self.aws.away = False, None

    @rule(seconds=st.sampled_from([3, 31, 120]))
    def let_time_pass(self, seconds):
        self.age(timedelta(seconds=seconds))

    # What reconcilers do, and how they end.

    @rule(
        number=st.integers(0, 2),
        fault=st.sampled_from([Killed(), Paused(), Paused(), NO_ANSWER, THROTTLED]),
        after=st.booleans(),
        calls=st.integers(0, 2),
    )
    def reconcile_with_a_fault(self, number, fault, after, calls):
        # Throttling means that nothing was done; that is what makes it certain.
        self.aws.fault, self.aws.after, self.aws.calls_until = fault, after and fault is not THROTTLED, calls
        for _ in range(2):
            self.age(timedelta(seconds=3))
            try:
                self.reconcilers[number].tick()
            except Killed:
                self.met.add("killed")
                self.reconcilers[number] = self.start_reconciler()
            self.check_new_intents()
            if self.aws.fault is None:
                break
        self.aws.fault = None

    @rule(number=st.integers(0, 2), outcome=OUTCOMES, agreed=st.booleans())
    def reconcile(self, number, outcome, agreed):
        """What is due, and CodeDeploy goes on with what it has got."""
        self.want_the_next()
        if agreed:
            for index in range(len(self.pending())):
                self.say(index, who="cem", what="approve")
        self.work(number)
        for key in self.active_in_codedeploy():
            self.aws.move(key, outcome)
        self.work(number)

    def want_the_next(self):
        """Else many lives were empty: Hypothesis leaves rules out of some, and so the one that asks."""
        for environment, what in zip(self.environments, ("new", "next"), strict=True):
            if (
                not Promotion.objects.exclude(status__in=Promotion.FINAL)
                .filter(environment=environment)
                .exists()
            ):
                self.request(what, dan=False)

    def work(self, number):
        self.age(timedelta(seconds=3))
        self.note_what_holds()
        self.reconcilers[number].tick()
        self.commits_have_their_consequences()
        self.check_new_intents()

    def go_on_without_one(self):
        """What the others do while a worker is stopped for longer than its lease."""
        self.met.add("paused")
        self.check_new_intents()
        self.age(timedelta(minutes=2))
        for _ in range(2):
            self.start_reconciler().tick()

    def start_reconciler(self):
        self.started += 1
        return Worker(owner=f"worker-{self.started}")

    # What always holds.

    @invariant()
    def commits_have_their_consequences(self):
        """In the outer transaction Django would keep them to its end, which never comes."""
        callbacks, connection.run_on_commit = connection.run_on_commit, []
        for _, callback, _ in callbacks:
            callback()

    @invariant()
    def check_new_intents(self):
        """Whatever was begun, was allowed when it was, by a decision that knew of the last change."""
        rows = Promotion.objects.filter(deployment__isnull=False).exclude(deployment__in=self.judged)
        for promotion in rows.select_related("release__build", "environment", "decision"):
            self.judged.add(promotion.deployment_id)
            assert promotion.decision.verdict in {"pass", "overridden"}
            self.met.add(promotion.decision.verdict)
            assert self.allowed(promotion), f"{promotion} was begun, which its gate must not allow"
            for key in (
                ("build", promotion.release.build_id),
                ("promotion", promotion.pk),
                ("environment", promotion.environment_id),
            ):
                if at := self.changed.get(key):
                    assert promotion.decision.evaluated_at >= at, f"decided before the last change of {key}"

    @invariant()
    def one_is_active_and_one_is_current(self):
        rows = (Deployment.objects.active(), Promotion.objects.under_way(), Occupancy.objects.current())
        for queryset in rows:
            twice = queryset.order_by().values("environment").annotate(rows=Count("pk")).filter(rows__gt=1)
            assert not twice.exists(), list(queryset)

    @invariant()
    def no_intent_was_deployed_twice(self):
        assert all(count == 1 for count in self.made().values()), self.made()

    @invariant()
    def the_ledger_explains_every_state(self):
        promotions, deployments = {}, {}
        for entry in Entry.objects.filter(chain=self.cast.service.slug).order_by("sequence"):
            noun, _, action = entry.action.partition(".")
            key = entry.subject.partition(":")[2]
            if noun == "promotion" and action in PROMOTION:
                promotions[int(key)] = PROMOTION[action]
                if action == "started":
                    deployments[entry.data["deployment"]] = "intended"
            elif noun == "deployment" and action in Deployment.Status:
                deployments[int(key)] = action
        assert promotions == dict(Promotion.objects.values_list("pk", "status"))
        assert deployments == dict(Deployment.objects.values_list("pk", "status"))

    @invariant()
    def whatever_waits_says_why(self):
        related = Promotion.objects.select_related("environment", "decision", "deployment")
        for promotion in related.exclude(status__in=Promotion.FINAL):
            unmet = [each["sentence"] for each in promotion.decision.findings if each["verdict"] != "pass"]
            assert describe.waits(promotion) or any(unmet), promotion

    # The model.

    def allowed(self, promotion):
        """A veto stops it; an override helps against all else."""
        if self.vetoed(promotion):
            return False
        overrides = Override.objects.filter(promotion=promotion, withdrawn_at=None)
        return overrides.filter(expires_at__gt=timezone.now()).exists() or self.passes(promotion)

    def passes(self, promotion):
        environment = promotion.environment
        if self.pinned(promotion) or environment.windows.exists():
            return False
        build = promotion.release.build
        if build.deviations or timezone.now() - build.finished_at > COUNTS_FOR:
            return False
        if environment == self.cast.production:
            there = Occupancy.objects.filter(environment=self.cast.staging, release=promotion.release)
            if not there.exists():
                return False
        said = Approval.objects.filter(promotion=promotion, withdrawn_at=None).exclude(
            user=promotion.requested_by
        )
        return environment.pk not in self.needs_approval or said.filter(verdict="approved").exists()

    def vetoed(self, promotion):
        here = Q(environment=None) | Q(environment=promotion.environment)
        return Veto.objects.filter(here, release=promotion.release, lifted_at=None).exists()

    def pinned(self, promotion):
        """To another release."""
        lasts = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
        pins = Pin.objects.filter(lasts, environment=promotion.environment, lifted_at=None)
        return pins.exclude(release=promotion.release).exists()

    def note_what_holds(self):
        for promotion in self.pending():
            held = {
                "vetoed": self.vetoed(promotion),
                "pinned": self.pinned(promotion),
                "shut": promotion.environment.windows.exists(),
            }
            self.met.update(name for name in held if held[name])

    def settle(self):
        """AWS comes back, people let go, time passes: every intent ends, with exactly one deployment."""
        self.aws.hidden, self.aws.away, self.aws.fault = False, None, None
        for environment in self.environments:
            self.let_go(environment, 0)
        for _ in range(40):
            self.age(timedelta(minutes=3))
            self.reconcilers[0].tick()
            self.commits_have_their_consequences()
            self.check_new_intents()
            for key in self.active_in_codedeploy():
                self.aws.move(key, "Succeeded")
            if not Deployment.objects.active().exists() and not self.startable():
                break
        assert not Deployment.objects.active().exists()
        assert not Promotion.objects.under_way().exists()
        intents = [description_of(each) for each in Deployment.objects.all()]
        assert self.made() == Counter(intents)
        self.one_is_active_and_one_is_current()
        self.the_ledger_explains_every_state()
        assert first_broken(chain=self.cast.service.slug) is None
        self.ends.update(Promotion.objects.values_list("status", "environment__position"))

    def startable(self):
        return [each for each in self.pending() if self.allowed(each)]

    def pending(self):
        related = ("release__build", "environment__service", "requested_by")
        return list(Promotion.objects.pending().select_related(*related).order_by("pk"))

    def active_in_codedeploy(self):
        return [info.id for info in self.aws.under_way()]

    def made(self):
        """How often CodeDeploy was given each description; the console gives none."""
        return Counter(info.description for info in self.aws.deployments.values() if info.description)

    def change(self, *key):
        self.changed[key] = timezone.now()

    def age(self, by):
        if by > timedelta(seconds=31):
            # Longer than this nothing stays hidden: the grace is made for seconds. Nor is AWS away for long.
            self.aws.hidden, self.aws.away = False, None
        for model, names in TIMES.items():
            model.objects.update(**{name: F(name) - by for name in names})
        for key, info in self.aws.deployments.items():
            moved = {
                name: getattr(info, name) - by
                for name in ("created_at", "started_at", "completed_at")
                if getattr(info, name)
            }
            self.aws.deployments[key] = replace(info, **moved)

    @staticmethod
    def pick(rows, number):
        return rows[number % len(rows)]


def test_no_life_breaks_a_promise():
    Life.ends.clear()
    Life.met.clear()
    run_state_machine_as_test(
        Life,
        settings=settings(
            derandomize=True,
            max_examples=50,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    # Lives in which nothing happens would prove nothing.
    ends = {status for status, _ in Life.ends}
    assert set(Promotion.FINAL) - ends == set()
    tried = {(status, position) for status in ("succeeded", "failed", "errored") for position in (0, 1)}
    assert tried - Life.ends == set()
    assert {"killed", "paused", "pass", "overridden", "vetoed", "pinned", "shut"} - Life.met == set()
