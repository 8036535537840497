"""Gather what gates need to know, in a fixed number of queries however many promotions are judged."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, QuerySet

from apps.builds.models import Build, Report
from apps.catalog.models import ApproverGroup, Environment, Membership, Upstream
from apps.compiled import Among, compiled
from apps.deployments.models import Occupancy
from apps.gates.facts import (
    ApprovalFact,
    BuildFact,
    BundleFact,
    Facts,
    OverrideFact,
    PersonFact,
    PinFact,
    PromotionFact,
    ReportFact,
    RunningFact,
    SupersededFact,
    UpstreamFact,
    VetoFact,
    WayBackFact,
    WindowFact,
)
from apps.promotions.comparing import compare_for_gates
from apps.promotions.failing import failed, first_failures, quarantined_failures
from apps.promotions.health import health_of, open_pin, stays_of, with_condition
from apps.promotions.models import Approval, Override, Promotion, Veto, Window
from apps.promotions.schema import (
    Brought,
    Steps,
    Way,
    brought_in_vain,
    brought_since_all,
    parse_steps,
    steps_of,
    worst_way_to,
)
from apps.releases.migration_source import Level
from apps.releases.models import BundleLook, Release
from apps.releases.way_back import WayBack, way_back_after

Role = Membership.Role


@dataclass(frozen=True)
class Subject:
    """What is judged: a release at the gate of an environment, both by id, and the asking, if anybody did."""

    release: int
    environment: int
    promotion: PromotionFact | None = None


def gather(*, release: Release, environment: Environment, promotion: Promotion | None = None) -> Facts:
    """Everything the rules may ask about a release at the gate of an environment, as it stands now."""
    subject = Subject(release.pk, environment.pk, fact_of(promotion) if promotion else None)
    (facts,) = gather_all([subject])
    return facts


def gather_all(subjects: Sequence[Subject]) -> list[Facts]:
    """The facts of each subject, in their order.

    Each function below reads for all of them at once. The queries: releases with build, service and
    bundle, upstreams, environments (these, too) with their pins and last deployments, what runs there,
    what was brought there in vain since, members with their groups, reports, occupancies upstream, what is
    on its way to all these environments, windows, vetoes; with promotions also their approvals and their
    overrides; with rollbacks when these releases were there last, and all that was brought since.
    Where tests failed, which of them are quarantined. And of what a process has not yet judged: the first
    failures and their names; the migrations of what is compared; where another release runs, how both
    builds' tests ended, and the names of those that changed, as compare_for_gates tells.

    Planning takes PostgreSQL longer than reading, so a join or a subquery less is worth more than a row.
    """
    releases = {release.pk: release for release in _releases(releases={each.release for each in subjects})}
    judged = {each.environment for each in subjects}
    sources = _sources(judged)
    environments = _environments(judged.union(*sources.values()))
    last = _last(environments)
    everywhere = {place: stay for place, stay in last.items() if stay.until is None}
    health = {
        pk: health_of(each, everywhere[pk].release_id if pk in everywhere else None)
        for pk, each in environments.items()
    }
    running = {
        environment: occupancy for environment, occupancy in everywhere.items() if environment in judged
    }
    brought = _brought(subjects, last)
    steps = _steps(brought, {pk: last[pk] for pk in judged & last.keys()})
    builds = {release.build_id for release in releases.values()}
    members = _members({release.service_id for release in releases.values()})
    reports = _reports(builds | {occupancy.release.build_id for occupancy in running.values()})
    red = {pk: its for pk, its in reports.items() if pk in builds and any(map(failed, its))}
    failures, quarantines = (first_failures(red), quarantined_failures(red)) if red else ({}, {})
    comparisons = compare_for_gates(_to_compare(subjects, releases, running), reports)
    been, on_their_way = _been(subjects, sources), _on_their_way(environments)
    windows, vetoes = _windows(judged), _vetoes(releases)
    wishes = {each.promotion.id for each in subjects if each.promotion}
    approvals, overrides = _approvals(wishes), _overrides(wishes)

    def tell_upstream(source: int, release: int) -> UpstreamFact:
        stays = been.get((source, release), [])
        promotion = next((each for each in on_their_way[source] if each.release_id == release), None)
        last = stays[-1] if stays else None
        return UpstreamFact(
            id=source,
            slug=environments[source].slug,
            deployment_id=last.deployment_id if last else None,
            since=last.since if last else None,
            until=last.until if last else None,
            promotion_id=promotion.id if promotion else None,
            promotion_at=promotion.created_at if promotion else None,
            stays=stays_of(stays),
            health=health[source],
        )

    def tell(subject: Subject) -> Facts:
        release, environment = releases[subject.release], environments[subject.environment]
        its_members = members[release.service_id]
        able = its_members.approvers
        runs = running.get(environment.pk)
        wish = subject.promotion
        way_back, schema = _ways(subject, last.get(environment.pk), brought[subject], steps)
        return Facts(
            service=release.service.slug,
            environment=environment.slug,
            release_id=release.pk,
            release_version=release.version,
            release_digest=release.digest,
            build=_build(release.build),
            reports=reports.get(release.build_id, ()),
            failures=failures.get(release.build_id, ()),
            quarantines=tuple(quarantines.get(release.build_id, ())),
            upstreams=tuple(tell_upstream(each, release.pk) for each in sources.get(environment.pk, ())),
            upstream_mode=environment.upstream_mode,
            promotion=wish,
            approvals=_told(approvals.get(wish.id, ()), able) if wish else (),
            approvers=able,
            running=_what_runs(runs, reports.get(runs.release.build_id, ())) if runs else None,
            comparisons=comparisons.get((runs.release.build_id, release.build_id)) if runs else None,
            bundle=_bundle(release),
            health=health[environment.pk],
            windows=tuple(windows.get(environment.pk, ())),
            pin=_pin(environment),
            vetoes=_vetoes_here(vetoes.get(release.pk, ()), environment),
            superseded_by=_superseded_by(release, runs, next(iter(on_their_way[environment.pk]), None)),
            overrides=tuple(
                _override(each, its_members) for each in (overrides.get(wish.id, ()) if wish else ())
            ),
            way_back=way_back,
            schema=schema,
        )

    return [tell(subject) for subject in subjects]


@compiled
def _releases() -> QuerySet[Release]:
    rows = Release.objects.select_related("build", "service", "look")
    return rows.defer("manifest", "steps", "build__exports").filter(Among("pk", "releases"))


def _bundle(release: Release) -> BundleFact | None:
    # Set by Django only where somebody has begun to look.
    look: BundleLook | None = getattr(release, "look", None)
    if look is None:
        return None
    return BundleFact(
        checked_at=look.since,
        problem=look.problem,
        failing_since=look.failing_since,
        failure=look.failure,
    )


def _to_compare(
    subjects: Iterable[Subject], releases: Mapping[int, Release], running: Mapping[int, Occupancy]
) -> set[tuple[int, int]]:
    """Which builds' tests to compare: of what runs and of another release, once they have been read."""
    found = set()
    for each in subjects:
        release, runs = releases[each.release], running.get(each.environment)
        if runs and runs.release_id != release.pk and release.build.collected_at:
            found.add((runs.release.build_id, release.build_id))
    return found


def _build(build: Build) -> BuildFact:
    deviations = build.deviations
    return BuildFact(
        id=build.pk,
        codebuild_id=build.codebuild_id,
        status=build.status,
        deviations=None if deviations is None else tuple(str(each) for each in deviations),
        registered_at=build.created_at,
        finished_at=build.finished_at,
        collected_at=build.collected_at,
        problem=build.problem,
        log_url=build.log_url,
    )


@compiled
def _with_condition() -> QuerySet[Environment]:
    return with_condition(Environment.objects.filter(Among("pk", "environments")).order_by())


def _environments(keys: Collection[int]) -> dict[int, Environment]:
    return {environment.pk: environment for environment in _with_condition(environments=keys)}


def _pin(environment: Environment) -> PinFact | None:
    """Whether it has expired is for the rule."""
    pin = open_pin(environment)
    if pin is None:
        return None
    return PinFact(
        id=pin.pk,
        release_id=pin.release_id,
        version=pin.release.version,
        reason=pin.reason,
        by=PersonFact(id=pin.by_id, username=pin.by.username),
        at=pin.created_at,
        expires_at=pin.expires_at,
    )


@compiled
def _windows_of() -> QuerySet[Window, Any]:
    rows = Window.objects.filter(Among("environment", "environments")).order_by("pk")
    return rows.values_list("environment", *(each.name for each in fields(WindowFact)))


def _windows(environments: Collection[int]) -> dict[int, list[WindowFact]]:
    """By environment."""
    windows: dict[int, list[WindowFact]] = defaultdict(list)
    for environment, *told in _windows_of(environments=environments):
        windows[environment].append(WindowFact(*told))
    return windows


@compiled
def _vetoes_on() -> QuerySet[Veto]:
    rows = Veto.objects.standing().filter(Among("release", "releases"))
    return rows.select_related("by").order_by("id")


def _vetoes(releases: Collection[int]) -> dict[int, list[Veto]]:
    """By release, wherever they hold."""
    vetoes: dict[int, list[Veto]] = defaultdict(list)
    for veto in _vetoes_on(releases=releases):
        vetoes[veto.release_id].append(veto)
    return vetoes


def _vetoes_here(vetoes: Iterable[Veto], environment: Environment) -> tuple[VetoFact, ...]:
    return tuple(
        VetoFact(
            id=veto.pk,
            environment=environment.slug if veto.environment_id else "",
            reason=veto.reason,
            by=PersonFact(id=veto.by_id, username=veto.by.username),
            at=veto.created_at,
        )
        for veto in vetoes
        if veto.environment_id in (None, environment.pk)
    )


@compiled
def _waiting_or_under_way() -> QuerySet[Promotion, tuple[Any, ...]]:
    rows = Promotion.objects.filter(
        Among("environment", "environments"), status__in=(Promotion.Status.PENDING, *Promotion.UNDER_WAY)
    )
    return rows.order_by("-release_id", "-id").values_list(
        "environment", "id", "release", "release__version", "created_at"
    )


class Coming(NamedTuple):
    """A promotion that is to bring a release to an environment."""

    id: int
    release_id: int
    version: str
    created_at: datetime


def _on_their_way(environments: Collection[int]) -> dict[int, list[Coming]]:
    """By environment what is to be brought there, the newest release first, of one its last promotion."""
    coming: dict[int, list[Coming]] = defaultdict(list)
    for environment, *told in _waiting_or_under_way(environments=environments):
        coming[environment].append(Coming(*told))
    return coming


def _superseded_by(
    release: Release, running: Occupancy | None, coming: Coming | None
) -> SupersededFact | None:
    """The newest of the releases after this one that runs in the environment or is to be brought there."""
    runs = running.release_id if running else 0
    if running and runs > release.pk and (coming is None or runs >= coming.release_id):
        return SupersededFact(release_id=runs, version=running.release.version, promotion_id=None)
    if coming and coming.release_id > release.pk:
        return SupersededFact(release_id=coming.release_id, version=coming.version, promotion_id=coming.id)
    return None


@compiled
def _last_stays() -> QuerySet[Occupancy]:
    stays = Occupancy.objects.filter(Among("environment", "environments"))
    newest = stays.order_by("environment_id", "-since", "-id").distinct("environment_id")
    return newest.select_related("release").defer("release__manifest", "release__steps")


def _last(environments: Collection[int]) -> dict[int, Occupancy]:
    """By environment, what runs there, or ran last where something that is no release took its place."""
    return {occupancy.environment_id: occupancy for occupancy in _last_stays(environments=environments)}


def _brought(subjects: Iterable[Subject], last: Mapping[int, Occupancy]) -> dict[Subject, list[Brought]]:
    """What the environment's database has been given, for each subject, oldest first.

    For who goes back, all of it since they were there. For others what ran last and what was brought in vain
    since: what came before was found to go with what ran last, and they know at least as many migrations.
    """
    back = [each for each in subjects if _goes_back(each)]
    ahead = [each for each in subjects if not _goes_back(each)]
    since = brought_since_all({(each.environment, each.release) for each in back})
    arrived = {each.environment: last.get(each.environment) for each in ahead}
    given = {pk: [_arrival(stay)] if stay else [] for pk, stay in arrived.items()}
    for brought in brought_in_vain({pk: stay.deployment_id if stay else 0 for pk, stay in arrived.items()}):
        given[brought.environment].append(brought)
    return {each: since[each.environment, each.release] for each in back} | {
        each: given[each.environment] for each in ahead
    }


def _goes_back(subject: Subject) -> bool:
    return subject.promotion is not None and subject.promotion.rollback


def _arrival(stay: Occupancy) -> Brought:
    return Brought(stay.environment_id, stay.deployment_id, "", stay.release_id, stay.release.version)


def _steps(brought: Mapping[Subject, Iterable[Brought]], last: Mapping[int, Occupancy]) -> Steps:
    """Of all that is compared with another."""
    compared = {stay.release_id for stay in last.values()}
    for subject, given in brought.items():
        if subject.environment in last or given:
            compared |= {subject.release, *(each.release for each in given if each.release is not None)}
    return steps_of(compared)


def _ways(
    subject: Subject, last: Occupancy | None, brought: Collection[Brought], steps: Steps
) -> tuple[WayBackFact, WayBackFact]:
    """From the release back to what ran last, and from what the database has been given to the release."""
    version = last.release.version if last else ""
    schema = Way(WayBack(Level.REVERSIBLE))
    if brought:
        not_applied = subject.promotion.not_applied if subject.promotion else ()
        schema = worst_way_to(subject.release, brought, steps, not_applied=not_applied)
    back = WayBack(Level.REVERSIBLE)
    if last:
        before, after = steps[last.release_id], steps[subject.release]
        # As for most releases, no migration lies between them. So hundreds need not be read.
        if after is None or after != before:
            back = way_back_after(parse_steps(before), parse_steps(after))
    return _way(back, version), _way(schema.way, schema.after or version)


def _way(found: WayBack, version: str) -> WayBackFact:
    return WayBackFact(
        level=str(found.level), migration=found.migration, operation=found.operation, running=version
    )


def _what_runs(occupancy: Occupancy, reports: tuple[ReportFact, ...]) -> RunningFact:
    release = occupancy.release
    return RunningFact(
        release_id=release.pk,
        version=release.version,
        digest=release.digest,
        since=occupancy.since,
        reports=reports,
    )


@compiled
def _reports_of() -> QuerySet[Report]:
    rows = Report.objects.filter(Among("build", "builds"))
    return rows.select_related("asserted_by").order_by("build_id", "name")


def _reports(builds: Collection[int]) -> dict[int, tuple[ReportFact, ...]]:
    """By build."""
    rows = _reports_of(builds=builds)
    return {
        build: tuple(
            ReportFact(
                id=report.pk,
                name=report.name,
                type=report.type,
                status=report.status,
                complete=report.complete,
                problem=report.problem,
                declared=report.declared,
                returned=report.returned,
                parsed=report.parsed,
                passed=report.passed,
                failed=report.failed,
                errors=report.errors,
                skipped=report.skipped,
                unknown=report.unknown,
                duration_ns=report.duration_ns,
                lines_covered=report.lines_covered,
                lines_total=report.lines_total,
                pruned_at=report.pruned_at,
                asserted_by=report.asserted_by.username if report.asserted_by else "",
            )
            for report in its
        )
        for build, its in groupby(rows, key=lambda report: report.build_id)
    }


@compiled
def _edges() -> QuerySet[Upstream, tuple[int, int]]:
    edges = Upstream.objects.filter(Among("environment", "environments"))
    return edges.order_by("source__position", "source__slug").values_list("environment", "source")


def _sources(environments: Collection[int]) -> dict[int, list[int]]:
    """By environment, those that it is promoted from, in their deploy order."""
    sources: dict[int, list[int]] = defaultdict(list)
    for environment, source in _edges(environments=environments):
        sources[environment].append(source)
    return sources


@compiled
def _stays_upstream() -> QuerySet[Occupancy]:
    there = Occupancy.objects.filter(Among("environment", "environments"), Among("release", "releases"))
    return there.with_incidents().order_by("since", "pk")


def _been(subjects: Iterable[Subject], sources: Mapping[int, list[int]]) -> dict[tuple[int, int], list[Any]]:
    """By upstream and release, its occupancies there, oldest first, each with its incidents."""
    been: dict[tuple[int, int], list[Any]] = defaultdict(list)
    upstream: set[int] = set().union(*sources.values())
    for occupancy in _stays_upstream(environments=upstream, releases={each.release for each in subjects}):
        been[occupancy.environment_id, occupancy.release_id].append(occupancy)
    return been


@compiled
def _who_may() -> QuerySet[Membership, tuple[Any, ...]]:
    groups = ApproverGroup.objects.filter(service=OuterRef("service"), members=OuterRef("user"))
    rows = Membership.objects.filter(
        Among("service", "services"), role__in=(Role.APPROVER, Role.OPERATOR), user__is_active=True
    )
    return rows.order_by("user__username").values_list(
        "service", "role", "user", "user__username", ArraySubquery(groups.order_by("name").values("name"))
    )


@dataclass
class Members:
    """Of a service: who may approve, by name, and the ids of its operators."""

    approvers: tuple[PersonFact, ...] = ()
    operators: frozenset[int] = frozenset()


def _members(services: Collection[int]) -> dict[int, Members]:
    """By service, those that are active."""
    members: dict[int, Members] = defaultdict(Members)
    for service, role, pk, username, belongs in _who_may(services=services):
        its = members[service]
        if role == Role.OPERATOR:
            its.operators |= {pk}
        else:
            its.approvers += (PersonFact(id=pk, username=username, groups=tuple(belongs)),)
    return members


def fact_of(promotion: Promotion) -> PromotionFact:
    """What a gate is told of a promotion itself; a query where its requester was not loaded with it."""
    return PromotionFact(
        id=promotion.pk,
        requested_by=PersonFact(id=promotion.requested_by_id, username=promotion.requested_by.username),
        requested_at=promotion.created_at,
        rollback=promotion.rollback,
        not_applied=tuple(promotion.not_applied),
    )


class Said(NamedTuple):
    """What an approver said of a promotion."""

    user: int
    username: str
    verdict: str
    at: datetime


@compiled
def _given() -> QuerySet[Approval, Any]:
    rows = Approval.objects.filter(Among("promotion", "promotions"), withdrawn_at=None).order_by("id")
    return rows.values_list("promotion", "user", "user__username", "verdict", "created_at")


def _approvals(wishes: Collection[int]) -> dict[int, list[Said]]:
    """By promotion, those that were not withdrawn, oldest first."""
    given: dict[int, list[Said]] = defaultdict(list)
    for promotion, *told in _given(promotions=wishes):
        given[promotion].append(Said(*told))
    return given


def _told(given: Iterable[Said], approvers: Iterable[PersonFact]) -> tuple[ApprovalFact, ...]:
    able = {person.id: person for person in approvers}
    return tuple(
        ApprovalFact(
            # Who is no approver any more is in no group either.
            user=able.get(each.user) or PersonFact(id=each.user, username=each.username),
            approved=each.verdict == Approval.Verdict.APPROVED,
            at=each.at,
            counts=each.user in able,
        )
        for each in given
    )


@compiled
def _overridden() -> QuerySet[Override]:
    rows = Override.objects.filter(Among("promotion", "promotions"), withdrawn_at=None)
    return rows.select_related("by", "seconded_by").order_by("id")


def _overrides(wishes: Collection[int]) -> dict[int, list[Override]]:
    """By promotion, those that were not withdrawn, oldest first."""
    overrides: dict[int, list[Override]] = defaultdict(list)
    for override in _overridden(promotions=wishes):
        overrides[override.promotion_id].append(override)
    return overrides


def _override(override: Override, members: Members) -> OverrideFact:
    by, second = override.by, override.seconded_by
    return OverrideFact(
        id=override.pk,
        rules=tuple(override.rules),
        justification=override.justification,
        by=PersonFact(id=by.pk, username=by.username),
        at=override.created_at,
        expires_at=override.expires_at,
        seconded_by=PersonFact(id=second.pk, username=second.username) if second else None,
        counts={by.pk, second.pk if second else by.pk} <= members.operators,
    )
