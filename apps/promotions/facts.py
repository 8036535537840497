"""Gather what gates need to know, in a fixed number of queries however many promotions are judged."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Exists, FilteredRelation, OuterRef, Q
from django.db.models.functions import JSONObject, Left

from apps.builds.models import Build, Quarantine, Report, TestCase, TestResult
from apps.catalog.models import ApproverGroup, Environment, Membership, Upstream
from apps.deployments.models import Occupancy
from apps.gates.facts import (
    ApprovalFact,
    BuildFact,
    BundleFact,
    Facts,
    FailureFact,
    HealthFact,
    OverrideFact,
    PersonFact,
    PinFact,
    PromotionFact,
    QuarantineFact,
    ReportFact,
    RunningFact,
    SupersededFact,
    UpstreamFact,
    VetoFact,
    WayBackFact,
    WindowFact,
)
from apps.promotions.comparing import compare_for_gates
from apps.promotions.health import deployments_with_hosts, health_of, last_deployment, stays_of
from apps.promotions.models import Approval, Override, Pin, Promotion, Veto, Window
from apps.promotions.schema import worst_way_to
from apps.releases.migration_source import Level
from apps.releases.models import BundleLook, Release
from apps.releases.way_back import WayBack, read_json, way_back_after, way_back_to

RED = (TestResult.Status.FAILED, TestResult.Status.ERROR)
FAILURES_TOLD = 20  # the counts are the reports'; nobody reads more names than these in a finding
MESSAGE_TOLD = 300  # characters


@dataclass(frozen=True)
class Subject:
    """What is judged, by ids: a release at the gate of an environment, and who asked for it, if anybody."""

    release: int
    environment: int
    promotion: int | None = None


def gather(*, release: Release, environment: Environment, promotion: Promotion | None = None) -> Facts:
    """Everything the rules may ask about a release at the gate of an environment, as it stands now."""
    subject = Subject(release.pk, environment.pk, promotion.pk if promotion else None)
    (facts,) = gather_all([subject])
    return facts


def gather_all(subjects: Sequence[Subject]) -> list[Facts]:
    """The facts of each subject, in their order.

    Each function below reads for all of them at once. The queries: releases with build, service and
    bundle, upstreams, environments (these, too) with their pins, what runs there, their last deployments with
    hosts, approvers and their groups, reports, failures, quarantines of those, occupancies and promotions
    upstream, windows, vetoes, the newest releases on their way to the environments; with promotions also
    these with their requesters, their approvals and their overrides. Where another release runs, how both
    builds' tests ended, and the names of those that changed, as compare_for_gates tells.
    """
    rows = Release.objects.select_related("build", "service", "look").defer("manifest")
    releases = rows.in_bulk({each.release for each in subjects})
    judged = {each.environment for each in subjects}
    sources = _sources(judged)
    environments = _environments(judged.union(*sources.values()))
    last = _last(environments)
    everywhere = {place: stay for place, stay in last.items() if stay.until is None}
    health = _health(environments, everywhere)
    running = {
        environment: occupancy for environment, occupancy in everywhere.items() if environment in judged
    }
    builds = {release.build_id for release in releases.values()}
    approvers = _approvers({release.service_id for release in releases.values()})
    reports = _reports(builds | {occupancy.release.build_id for occupancy in running.values()})
    failures, quarantines = _failures(builds), _quarantines(builds)
    comparisons = compare_for_gates(_to_compare(subjects, releases, running), reports)
    been, on_their_way = _been(subjects, sources), _on_their_way(subjects, sources)
    windows = _windows(judged)
    vetoes, coming = _vetoes(releases), _coming(judged)
    wishes = {each.promotion for each in subjects if each.promotion is not None}
    promotions = _promotions(wishes) if wishes else {}
    approvals = _approvals(wishes) if wishes else {}
    overrides = _overrides(wishes) if wishes else {}

    def tell_upstream(source: int, release: int) -> UpstreamFact:
        stays, promotion = been.get((source, release), []), on_their_way.get((source, release))
        last = stays[-1] if stays else None
        return UpstreamFact(
            id=source,
            slug=environments[source].slug,
            deployment_id=last.deployment_id if last else None,
            since=last.since if last else None,
            until=last.until if last else None,
            promotion_id=promotion.pk if promotion else None,
            promotion_at=promotion.created_at if promotion else None,
            stays=stays_of(stays),
            health=health[source],
        )

    def tell(subject: Subject) -> Facts:
        release, environment = releases[subject.release], environments[subject.environment]
        able = approvers.get(release.service_id, ())
        runs = running.get(environment.pk)
        wish = promotions[subject.promotion] if subject.promotion else None
        way_back, schema = _ways(release, last.get(environment.pk), wish)
        return Facts(
            service=release.service.slug,
            environment=environment.slug,
            release_id=release.pk,
            release_version=release.version,
            release_digest=release.digest,
            build=_build(release.build),
            reports=reports.get(release.build_id, ()),
            failures=failures.get(release.build_id, ()),
            quarantines=tuple(quarantines[release.build_id]),
            upstreams=tuple(tell_upstream(each, release.pk) for each in sources.get(environment.pk, ())),
            upstream_mode=environment.upstream_mode,
            promotion=wish,
            approvals=_told(approvals.get(subject.promotion, ()), able) if subject.promotion else (),
            approvers=able,
            running=_what_runs(runs, reports.get(runs.release.build_id, ())) if runs else None,
            comparisons=comparisons.get((runs.release.build_id, release.build_id)) if runs else None,
            bundle=_bundle(release),
            health=health[environment.pk],
            windows=tuple(windows.get(environment.pk, ())),
            pin=_pin(environment),
            vetoes=_vetoes_here(vetoes.get(release.pk, ()), environment),
            superseded_by=_superseded_by(release, runs, coming.get(environment.pk)),
            overrides=tuple(overrides.get(subject.promotion, ())) if subject.promotion else (),
            way_back=way_back,
            schema=schema,
        )

    return [tell(subject) for subject in subjects]


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


def _environments(keys: Iterable[int]) -> dict[int, Environment]:
    """Each with what holds it, as ``_pin`` reads it (one pin at most is open), and its last deployment."""
    rows = Environment.objects.annotate(
        open_pin=FilteredRelation("pins", condition=Q(pins__lifted_at=None)),
        last_deployment=last_deployment("pk"),
    ).select_related("open_pin__release", "open_pin__by")  # type: ignore[misc]  # which mypy does not see
    return dict(rows.defer("open_pin__release__manifest", "open_pin__release__steps").in_bulk(keys))  # type: ignore[misc]  # likewise


def _pin(environment: Environment) -> PinFact | None:
    """Whether it has expired is for the rule."""
    # Set by Django only where there is one.
    pin: Pin | None = getattr(environment, "open_pin", None)
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


def _windows(environments: Iterable[int]) -> dict[int, list[WindowFact]]:
    """By environment."""
    windows: dict[int, list[WindowFact]] = defaultdict(list)
    for window in Window.objects.filter(environment__in=environments).order_by("pk"):
        windows[window.environment_id].append(window.fact())
    return windows


def _vetoes(releases: Iterable[int]) -> dict[int, list[Veto]]:
    """By release, wherever they hold."""
    vetoes: dict[int, list[Veto]] = defaultdict(list)
    for veto in Veto.objects.standing().filter(release__in=releases).select_related("by").order_by("id"):
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


def _coming(environments: Iterable[int]) -> dict[int, Promotion]:
    """By environment, the newest release that is to be brought there, as its promotion."""
    rows = Promotion.objects.filter(
        environment__in=environments, status__in=(Promotion.Status.PENDING, *Promotion.UNDER_WAY)
    )
    newest = rows.order_by("environment_id", "-release_id", "-id").distinct("environment_id")
    return {
        promotion.environment_id: promotion
        for promotion in newest.select_related("release").defer("release__manifest", "release__steps")
    }


def _superseded_by(
    release: Release, running: Occupancy | None, coming: Promotion | None
) -> SupersededFact | None:
    """The newest of the releases after this one that runs in the environment or is to be brought there."""
    runs = running.release_id if running else 0
    if running and runs > release.pk and (coming is None or runs >= coming.release_id):
        return SupersededFact(release_id=runs, version=running.release.version, promotion_id=None)
    if coming and coming.release_id > release.pk:
        return SupersededFact(
            release_id=coming.release_id, version=coming.release.version, promotion_id=coming.pk
        )
    return None


def _last(environments: Iterable[int]) -> dict[int, Occupancy]:
    """By environment, what runs there, or ran last where something that is no release took its place."""
    stays = Occupancy.objects.filter(environment__in=environments)
    newest = stays.order_by("environment_id", "-since", "-id").distinct("environment_id")
    rows = newest.select_related("release").defer("release__manifest")
    return {occupancy.environment_id: occupancy for occupancy in rows}


def _ways(
    release: Release, last: Occupancy | None, wish: PromotionFact | None
) -> tuple[WayBackFact, WayBackFact]:
    """From the release back to what runs, and from what runs to the release."""
    if last is None:
        nothing = WayBackFact(level="reversible", migration="", operation="")
        return nothing, nothing
    version = last.release.version
    rollback = wish is not None and wish.rollback
    if release.steps is not None and release.steps == last.release.steps and not rollback:
        # As for most releases: no migration lies between them.
        open_ = _way(WayBack(Level.REVERSIBLE), version)
        return open_, open_
    running, steps = read_json(last.release.steps), read_json(release.steps)
    back = way_back_after(running, steps)
    if wish is not None and wish.rollback:
        # Whoever goes back comes to all that the database has seen, also from what failed on its way. Few
        # promotions are rollbacks, so these few queries are made for each.
        way = worst_way_to(release, environment_id=last.environment_id, not_applied=wish.not_applied)
        return _way(back, version), _way(way.way, way.after.version if way.after else version)
    return _way(back, version), _way(way_back_to(steps, running), version)


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


def _reports(builds: Iterable[int]) -> dict[int, tuple[ReportFact, ...]]:
    """By build."""
    rows = Report.objects.filter(build__in=builds).select_related("asserted_by").order_by("build_id", "name")
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


def _failures(builds: Iterable[int]) -> dict[int, tuple[FailureFact, ...]]:
    """By build, the first few of each."""
    first = (
        TestResult.objects.filter(report__build=OuterRef("pk"), status__in=RED)
        .order_by("report__name", "id")
        .values(
            told=JSONObject(
                report="report__name",
                class_name="case__class_name",
                name="case__name",
                status="status",
                message=Left("message", MESSAGE_TOLD),
            )
        )[:FAILURES_TOLD]
    )
    rows = Build.objects.filter(pk__in=builds).values_list("pk", ArraySubquery(first))
    return {
        build: tuple(
            FailureFact(
                report=each["report"],
                name=str(TestCase(class_name=each["class_name"], name=each["name"])),
                status=each["status"],
                message=each["message"],
            )
            for each in failures
        )
        for build, failures in rows
    }


def _quarantines(builds: Iterable[int]) -> dict[int, list[QuarantineFact]]:
    """By build, its failures of tests that are quarantined now: what was quarantined first comes first."""
    found: dict[int, list[QuarantineFact]] = defaultdict(list)
    rows = Quarantine.objects.in_force().filter(
        # A test may fail in several reports of a build; each is a failure of its own.
        case__results__report__build__in=builds,
        case__results__status__in=RED,
    )
    for row in rows.order_by("id", "case__results__report__name").values(
        "id",
        "case__class_name",
        "case__name",
        "case__results__report__build",
        "case__results__report__name",
        "by",
        "by__username",
        "reason",
        "created_at",
        "until",
    ):
        fact = QuarantineFact(
            id=row["id"],
            report=row["case__results__report__name"],
            name=str(TestCase(class_name=row["case__class_name"], name=row["case__name"])),
            by=PersonFact(id=row["by"], username=row["by__username"]),
            reason=row["reason"],
            at=row["created_at"],
            until=row["until"],
        )
        found[row["case__results__report__build"]].append(fact)
    return found


def _sources(environments: Iterable[int]) -> dict[int, list[int]]:
    """By environment, those that it is promoted from, in their deploy order."""
    sources: dict[int, list[int]] = defaultdict(list)
    edges = Upstream.objects.filter(environment__in=environments).order_by("source__position", "source__slug")
    for environment, source in edges.values_list("environment", "source"):
        sources[environment].append(source)
    return sources


def _health(
    environments: Mapping[int, Environment], running: Mapping[int, Occupancy]
) -> dict[int, HealthFact]:
    """By environment."""
    last = {pk: getattr(environment, "last_deployment", None) for pk, environment in environments.items()}
    deployments = deployments_with_hosts(last.values())
    return {
        pk: health_of(
            environment,
            deployments.get(last[pk] or 0),
            running[pk].release_id if pk in running else None,
        )
        for pk, environment in environments.items()
    }


def _been(subjects: Iterable[Subject], sources: Mapping[int, list[int]]) -> dict[tuple[int, int], list[Any]]:
    """By upstream and release, its occupancies there, oldest first, each with its incidents."""
    been: dict[tuple[int, int], list[Any]] = defaultdict(list)
    occupancies = Occupancy.objects.filter(**_upstream_of(subjects, sources)).with_incidents()
    for occupancy in occupancies.order_by("since", "pk"):
        been[occupancy.environment_id, occupancy.release_id].append(occupancy)
    return been


def _on_their_way(
    subjects: Iterable[Subject], sources: Mapping[int, list[int]]
) -> dict[tuple[int, int], Promotion]:
    """By upstream and release, the last promotion that is to bring it there."""
    status = (Promotion.Status.PENDING, *Promotion.UNDER_WAY)
    there = Promotion.objects.filter(**_upstream_of(subjects, sources), status__in=status)
    return {(each.environment_id, each.release_id): each for each in there.order_by("id")}


def _upstream_of(subjects: Iterable[Subject], sources: Mapping[int, list[int]]) -> dict[str, set[int]]:
    return {
        "environment__in": set().union(*sources.values()),
        "release__in": {each.release for each in subjects},
    }


def _approvers(services: Iterable[int]) -> dict[int, tuple[PersonFact, ...]]:
    """By service."""
    groups: dict[tuple[int, int], list[str]] = defaultdict(list)
    named = ApproverGroup.objects.filter(service__in=services, members__isnull=False)
    for service, name, user in named.order_by("name").values_list("service", "name", "members"):
        groups[service, user].append(name)
    members = Membership.objects.filter(
        service__in=services, role=Membership.Role.APPROVER, user__is_active=True
    )
    people: dict[int, list[PersonFact]] = defaultdict(list)
    for service, pk, username in members.order_by("user__username").values_list(
        "service", "user", "user__username"
    ):
        belongs = tuple(groups.get((service, pk), ()))
        people[service].append(PersonFact(id=pk, username=username, groups=belongs))
    return {service: tuple(its) for service, its in people.items()}


def _promotions(wishes: Iterable[int]) -> dict[int, PromotionFact]:
    return {
        pk: PromotionFact(
            id=pk,
            requested_by=PersonFact(id=row.requested_by_id, username=row.requested_by.username),
            requested_at=row.created_at,
            rollback=row.rollback,
            not_applied=tuple(row.not_applied),
        )
        for pk, row in Promotion.objects.select_related("requested_by").in_bulk(wishes).items()
    }


def _approvals(wishes: Iterable[int]) -> dict[int, list[Approval]]:
    """By promotion, those that were not withdrawn, oldest first."""
    given: dict[int, list[Approval]] = defaultdict(list)
    rows = Approval.objects.filter(promotion__in=wishes, withdrawn_at=None)
    for approval in rows.select_related("user").order_by("id"):
        given[approval.promotion_id].append(approval)
    return given


def _told(given: Iterable[Approval], approvers: Iterable[PersonFact]) -> tuple[ApprovalFact, ...]:
    able = {person.id: person for person in approvers}
    return tuple(
        ApprovalFact(
            # Who is no approver any more is in no group either.
            user=able.get(approval.user_id)
            or PersonFact(id=approval.user_id, username=approval.user.username),
            approved=approval.verdict == Approval.Verdict.APPROVED,
            at=approval.created_at,
            counts=approval.user_id in able,
        )
        for approval in given
    )


def _overrides(wishes: Iterable[int]) -> dict[int, list[OverrideFact]]:
    """By promotion, those that were not withdrawn, oldest first."""
    operators = Membership.objects.filter(
        service=OuterRef("promotion__environment__service"),
        role=Membership.Role.OPERATOR,
        user__is_active=True,
    )
    rows = Override.objects.filter(promotion__in=wishes, withdrawn_at=None).annotate(
        by_counts=Exists(operators.filter(user=OuterRef("by"))),
        second_counts=Exists(operators.filter(user=OuterRef("seconded_by"))),
    )
    overrides: dict[int, list[OverrideFact]] = defaultdict(list)
    for row in rows.select_related("by", "seconded_by").order_by("id"):
        second = row.seconded_by
        fact = OverrideFact(
            id=row.pk,
            rules=tuple(row.rules),
            justification=row.justification,
            by=PersonFact(id=row.by_id, username=row.by.username),
            at=row.created_at,
            expires_at=row.expires_at,
            seconded_by=PersonFact(id=second.pk, username=second.username) if second else None,
            counts=row.by_counts and (row.second_counts or second is None),
        )
        overrides[row.promotion_id].append(fact)
    return overrides
