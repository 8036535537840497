"""Gather what a gate needs to know, in a fixed number of queries."""

from django.db.models import FilteredRelation, Q

from apps.builds.models import Build, Report, TestResult
from apps.catalog.models import ApproverGroup, Environment, Membership, Upstream
from apps.deployments.models import Occupancy
from apps.gates.facts import (
    ApprovalFact,
    BuildFact,
    Facts,
    FailureFact,
    PersonFact,
    PinFact,
    PromotionFact,
    ReportFact,
    RunningFact,
    SupersededFact,
    UpstreamFact,
    VetoFact,
)
from apps.promotions.models import Approval, Pin, Promotion, Veto, Window
from apps.releases.models import Release

FAILURES_TOLD = 20  # the counts are the reports'; nobody reads more names than these in a finding
MESSAGE_TOLD = 300  # characters


def gather(*, release: Release, environment: Environment, promotion: Promotion | None = None) -> Facts:
    """Everything the rules may ask about a release at the gate of an environment, as it stands now.

    The queries: release with build, environment with its pin, what runs there, reports, failures, upstreams,
    occupancies and promotions there, approvers and their groups, windows, vetoes, the newest release on its
    way here; with a promotion also its requester and its approvals.
    """
    release = Release.objects.select_related("build", "service").defer("manifest").get(pk=release.pk)
    environment, pin = _environment(environment.pk)
    approvers = _approvers(release.service_id)
    running = Occupancy.objects.current().filter(environment=environment).select_related("release")
    occupancy = running.defer("release__manifest").first()
    reports = _reports(release, *((occupancy.release,) if occupancy else ()))
    return Facts(
        service=release.service.slug,
        environment=environment.slug,
        release_id=release.pk,
        release_version=release.version,
        release_digest=release.digest,
        build=_build(release.build),
        reports=reports[release.build_id],
        failures=_failures(release.build),
        upstreams=_upstreams(release, environment),
        upstream_mode=environment.upstream_mode,
        promotion=_promotion(promotion) if promotion else None,
        approvals=_approvals(promotion, approvers) if promotion else (),
        approvers=approvers,
        windows=tuple(each.fact() for each in Window.objects.filter(environment=environment).order_by("pk")),
        running=_running(occupancy, reports[occupancy.release.build_id]) if occupancy else None,
        pin=pin,
        vetoes=_vetoes(release, environment),
        superseded_by=_superseded_by(release, environment, occupancy),
    )


def _environment(pk: int) -> tuple[Environment, PinFact | None]:
    """The environment, and what holds it: one pin at most is open. Whether it has expired is for the rule."""
    rows = Environment.objects.annotate(
        open_pin=FilteredRelation("pins", condition=Q(pins__lifted_at=None))
    ).select_related("open_pin__release", "open_pin__by")  # type: ignore[misc]  # which mypy does not see
    environment = rows.defer("open_pin__release__manifest").get(pk=pk)  # type: ignore[misc]  # likewise
    # Set by Django only where there is one.
    pin: Pin | None = getattr(environment, "open_pin", None)
    if pin is None:
        return environment, None
    return environment, PinFact(
        id=pin.pk,
        release_id=pin.release_id,
        version=pin.release.version,
        reason=pin.reason,
        by=PersonFact(id=pin.by_id, username=pin.by.username),
        at=pin.created_at,
        expires_at=pin.expires_at,
    )


def _vetoes(release: Release, environment: Environment) -> tuple[VetoFact, ...]:
    here = Q(environment=None) | Q(environment=environment)
    return tuple(
        VetoFact(
            id=veto.pk,
            environment=environment.slug if veto.environment_id else "",
            reason=veto.reason,
            by=PersonFact(id=veto.by_id, username=veto.by.username),
            at=veto.created_at,
        )
        for veto in Veto.objects.standing().filter(here, release=release).select_related("by").order_by("id")
    )


def _superseded_by(
    release: Release, environment: Environment, running: Occupancy | None
) -> SupersededFact | None:
    """The newest of the releases after this one that runs in the environment or is to be brought there."""
    coming = (
        Promotion.objects.filter(
            environment=environment,
            release__gt=release.pk,
            status__in=(Promotion.Status.PENDING, *Promotion.UNDER_WAY),
        )
        .order_by("-release", "-id")
        .values("pk", "release", "release__version")
        .first()
    )
    ahead = running.release_id if running and running.release_id > release.pk else None
    if running and ahead and (coming is None or ahead >= coming["release"]):
        return SupersededFact(release_id=ahead, version=running.release.version, promotion_id=None)
    if coming:
        return SupersededFact(
            release_id=coming["release"], version=coming["release__version"], promotion_id=coming["pk"]
        )
    return None


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


def _reports(*releases: Release) -> dict[int, tuple[ReportFact, ...]]:
    """The reports of the builds that releases stand on, by build."""
    found: dict[int, list[ReportFact]] = {release.build_id: [] for release in releases}
    for report in Report.objects.filter(build__in=found).order_by("name"):
        found[report.build_id].append(_report(report))
    return {build: tuple(reports) for build, reports in found.items()}


def _report(report: Report) -> ReportFact:
    return ReportFact(
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
        lines_covered=report.lines_covered,
        lines_total=report.lines_total,
    )


def _running(occupancy: Occupancy, reports: tuple[ReportFact, ...]) -> RunningFact:
    release = occupancy.release
    return RunningFact(
        release_id=release.pk,
        version=release.version,
        digest=release.digest,
        since=occupancy.since,
        reports=reports,
    )


def _failures(build: Build) -> tuple[FailureFact, ...]:
    red = (TestResult.Status.FAILED, TestResult.Status.ERROR)
    results = TestResult.objects.filter(report__build=build, status__in=red)
    return tuple(
        FailureFact(
            report=result.report.name,
            name=str(result.case),
            status=result.status,
            message=result.message[:MESSAGE_TOLD],
        )
        for result in results.select_related("report", "case").order_by("report__name", "id")[:FAILURES_TOLD]
    )


def _upstreams(release: Release, environment: Environment) -> tuple[UpstreamFact, ...]:
    edges = Upstream.objects.filter(environment=environment).select_related("source")
    sources = [edge.source for edge in edges.order_by("source__position", "source__slug")]
    been = {
        # The last one wins.
        occupancy.environment_id: occupancy
        for occupancy in Occupancy.objects.filter(environment__in=sources, release=release).order_by("since")
    }
    coming = {
        promotion.environment_id: promotion
        for promotion in Promotion.objects.filter(
            environment__in=sources,
            release=release,
            status__in=(Promotion.Status.PENDING, *Promotion.UNDER_WAY),
        ).order_by("id")
    }
    facts = []
    for source in sources:
        occupancy, promotion = been.get(source.pk), coming.get(source.pk)
        facts.append(
            UpstreamFact(
                id=source.pk,
                slug=source.slug,
                deployment_id=occupancy.deployment_id if occupancy else None,
                since=occupancy.since if occupancy else None,
                until=occupancy.until if occupancy else None,
                promotion_id=promotion.pk if promotion else None,
                promotion_at=promotion.created_at if promotion else None,
            )
        )
    return tuple(facts)


def _approvers(service_id: int) -> tuple[PersonFact, ...]:
    members = Membership.objects.filter(
        service=service_id, role=Membership.Role.APPROVER, user__is_active=True
    )
    groups: dict[int, list[str]] = {}
    named = ApproverGroup.objects.filter(service=service_id, members__isnull=False)
    for name, user in named.order_by("name").values_list("name", "members"):
        groups.setdefault(user, []).append(name)
    return tuple(
        PersonFact(id=pk, username=username, groups=tuple(groups.get(pk, ())))
        for pk, username in members.order_by("user__username").values_list("user", "user__username")
    )


def _promotion(promotion: Promotion) -> PromotionFact:
    row = Promotion.objects.select_related("requested_by").get(pk=promotion.pk)
    return PromotionFact(
        id=row.pk,
        requested_by=PersonFact(id=row.requested_by_id, username=row.requested_by.username),
        requested_at=row.created_at,
    )


def _approvals(promotion: Promotion, approvers: tuple[PersonFact, ...]) -> tuple[ApprovalFact, ...]:
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
        for approval in Approval.objects.filter(promotion=promotion, withdrawn_at=None)
        .select_related("user")
        .order_by("id")
    )
