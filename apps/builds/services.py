"""Take builds into the records: who asked, how they ran, and what their reports hold."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps.access.models import User
from apps.aws import codebuild
from apps.aws.codebuild import BuildInfo
from apps.aws.errors import AwsError
from apps.builds.definition import deviations
from apps.builds.evidence import ReportEvidence, read_report
from apps.builds.links import is_page
from apps.builds.models import Build
from apps.builds.parsers.case import Outcome
from apps.builds.store import open_book, write_reports
from apps.catalog.models import Service
from apps.catalog.permissions import MOVERS, require_role
from apps.errors import DomainError, Invalid, NotFound, Unavailable
from apps.leases import Lease
from apps.ledger.services import record

# Together the 3 seconds that a request to register a build may take: one attempt, connect and answer.
REGISTER_CONNECT, REGISTER_ANSWER = 1.0, 2.0
# How long after a build's end its evidence may come. Then it counts as missing.
EVIDENCE_WAIT = timedelta(minutes=10)
RENEW_EVERY = 5.0  # seconds
# What a build tells Lockkeeper by its exported variables; what else it exports is not kept.
EXPORT_PREFIX = "LOCKKEEPER_"
EXPORTS = ("LOCKKEEPER_BUNDLE_KEY", "LOCKKEEPER_BUNDLE_VERSION", "LOCKKEEPER_BUNDLE_SHA256")


def get_build(name: str) -> Build:
    """The build of that id, ours or CodeBuild's; NotFound otherwise."""
    match = Q(pk=int(name)) if re.fullmatch(r"[0-9]{1,18}", name) else Q(codebuild_id=name)
    build = Build.objects.select_related("service").filter(match).first()
    if build is None:
        raise NotFound(f"There is no build {name[:120]!r}: give its id, or CodeBuild's project:uuid.")
    return build


def register_build(
    *, service: Service, codebuild_id: str, commit: str = "", pipeline_url: str = "", requested_by: User
) -> tuple[Build, bool]:
    """Take a CodeBuild run of the service's project into the records; True when it was not there yet.

    ``commit`` is needed only where CodeBuild does not know it (source in S3); it is the caller's word, and
    checked against the bundle later. ``pipeline_url``, the page of the run that started the build, is so too,
    and stays what it was when the build was registered first. Asks CodeBuild once: Unavailable when it does
    not answer, NotFound for an id it does not know, Invalid for a build of another project or an id that
    cannot be one.
    """
    require_role(user=requested_by, service=service, roles=MOVERS)
    commit = commit.lower()
    if commit and not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise Invalid(f"{commit[:60]!r} is no commit: give all 40 hexadecimal digits, or none.")
    if pipeline_url and not is_page(pipeline_url):
        raise Invalid(
            f"{pipeline_url[:120]!r} is no page of a pipeline's run: it begins with https:// or http:// and "
            "has neither blanks nor a user's name."
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{1,254}:[0-9A-Za-z-]{1,40}", codebuild_id):
        raise Invalid(f"{codebuild_id[:120]!r} is no build id: it has the form project:uuid.")
    project = codebuild_id.partition(":")[0]
    if project != service.codebuild_project:
        raise Invalid(
            f"{codebuild_id} is a build of the project {project}; {service.slug} is built by "
            f"{service.codebuild_project}."
        )
    if known := Build.objects.filter(codebuild_id=codebuild_id).first():
        return _same(known, commit), False
    info = _ask(codebuild_id)
    if info is None:
        raise NotFound(
            f"CodeBuild does not know {codebuild_id} (any more). Check the id, the account and the region."
        )
    if info.project != service.codebuild_project:
        raise Invalid(
            f"{codebuild_id} is a build of {info.project}, not of {service.slug}'s project "
            f"{service.codebuild_project}."
        )
    commit = _commit(info, commit)
    with transaction.atomic():
        build, created = Build.objects.get_or_create(
            codebuild_id=codebuild_id,
            defaults={
                "service": service,
                "commit": commit,
                "requested_by": requested_by,
                "pipeline_url": pipeline_url,
                **_progress(info),
            },
        )
        if created:
            record(
                chain=service.slug,
                action="build.registered",
                subject=f"build:{build.pk}",
                actor=requested_by,
                data={
                    "codebuild_id": codebuild_id,
                    "commit": commit,
                    "pipeline_url": pipeline_url,
                    "status": build.status,
                },
            )
    return _same(build, commit), created


def collect_build(*, build: Build, lease: Lease) -> None:
    """Look how far a build is; once it has ended, read its evidence to the end and write it in one piece.

    ``collected_at`` stays empty while the build runs and while evidence may still come. Raises AwsError
    when AWS could not be asked (then nothing has changed), and LeaseLost.
    """
    info = codebuild.get_build(build.codebuild_id)
    if info is None:
        _give_up(build, lease, "CodeBuild does not know this build any more; it keeps builds for a year.")
        return
    if not info.complete or info.status == codebuild.IN_PROGRESS:
        lease.update(**_progress(info))
        return
    overdue = _overdue(info)
    seen = _Seen(info)
    try:
        _look(seen, service=build.service_id, tick=_renewer(lease))
    except AwsError as error:
        if error.retryable or not overdue:
            # The gate can know that the build has ended, even though its evidence cannot be read yet.
            lease.update(**_progress(info))
            raise
        _give_up(build, lease, f"Its evidence cannot be read: {error}", info)
        return
    if not overdue and any(report.late for report in seen.reports):
        lease.update(**_progress(info))
        return
    _write(build, lease, seen)


@dataclass
class _Seen:
    """What was read of a build that has ended."""

    info: BuildInfo
    deviations: list[str] | None = None
    problem: str = ""
    reports: list[ReportEvidence] = field(default_factory=list)


def _look(seen: _Seen, *, service: int, tick: Callable[[], object]) -> None:
    info = seen.info
    project = codebuild.get_project(info.project)
    if project is None:
        seen.problem = f"The project {info.project} is gone, so the build cannot be compared with it."
    else:
        seen.deviations = deviations(build=info, project=project)
    if not seen.problem and info.status == Build.Status.SUCCEEDED:
        missing = [name for name in EXPORTS if not info.exports.get(name)]
        if missing:
            seen.problem = (
                f"It exported no {', '.join(missing)}: publish the bundle and name these in "
                "env.exported-variables of the buildspec."
            )
    tick()
    found = {report.arn: report for report in codebuild.get_reports(info.report_arns)}
    for arn in info.report_arns:
        if report := found.get(arn):
            seen.reports.append(
                read_report(
                    report, open_book=lambda group: open_book(service=service, group=group), tick=tick
                )
            )
        else:
            # Reports live for 30 days.
            name = arn.rpartition("report/")[2].rpartition(":")[0]
            seen.problem = seen.problem or f"CodeBuild does not know its report {name} (any more)."


def _write(build: Build, lease: Lease, seen: _Seen) -> None:
    with transaction.atomic():
        # First, since it locks the row: from here on it does not matter when the lease runs out.
        lease.update(
            **_progress(seen.info),
            deviations=seen.deviations,
            problem=seen.problem,
            collected_at=timezone.now(),
        )
        write_reports(build=build, reports=seen.reports)
        record(
            chain=build.service.slug,
            action="build.collected",
            subject=f"build:{build.pk}",
            data={
                "status": seen.info.status,
                "deviations": seen.deviations,
                "problem": seen.problem,
                "reports": [_summary(report) for report in seen.reports],
            },
        )


def _give_up(build: Build, lease: Lease, problem: str, info: BuildInfo | None = None) -> None:
    """Write that a build's evidence will never be read, and why."""
    if info is None:
        # It ended; how, nobody knows.
        values: dict[str, Any] = {"status": Build.Status.FAULT} if _running(build) else {}
    else:
        values = _progress(info)
    with transaction.atomic():
        lease.update(**values, problem=problem, collected_at=timezone.now())
        record(
            chain=build.service.slug,
            action="build.given_up",
            subject=f"build:{build.pk}",
            data={"problem": problem},
        )


def _running(build: Build) -> bool:
    return build.status == Build.Status.IN_PROGRESS


def _ask(codebuild_id: str) -> BuildInfo | None:
    try:
        return codebuild.get_build(
            codebuild_id, connect_timeout=REGISTER_CONNECT, timeout=REGISTER_ANSWER, attempts=1
        )
    except AwsError as error:
        if error.code == "InvalidInputException":
            raise Invalid(str(error)) from error
        raise Unavailable(
            f"CodeBuild could not be asked for {codebuild_id}. {error}",
            retry_after=5 if error.retryable else 60,
        ) from error


def _commit(info: BuildInfo, asserted: str) -> str:
    """The commit: CodeBuild's, where it checked one out, else the caller's."""
    resolved = info.resolved_source_version.lower()
    if info.source_type in {"S3", "NO_SOURCE"} or not re.fullmatch(r"[0-9a-f]{40}", resolved):
        return asserted
    if asserted and asserted != resolved:
        raise Invalid(f"{info.id} is a build of commit {resolved}, not of {asserted}.")
    return resolved


def _same(build: Build, commit: str) -> Build:
    if commit and build.commit != commit:
        raise DomainError(
            f"{build.codebuild_id} is registered with commit {build.commit or 'unknown'}, not {commit}. "
            "Start a new build for another commit."
        )
    return build


def _progress(info: BuildInfo) -> dict[str, Any]:
    """What a build's row says of how far it is."""
    ended = info.complete and info.status in Build.Status.values
    return {
        "number": info.number,
        "status": info.status if ended else Build.Status.IN_PROGRESS,
        "source_version": info.source_version[:1024],
        "exports": {
            name: value[:1024] for name, value in info.exports.items() if name.startswith(EXPORT_PREFIX)
        },
        "log_url": info.log_url,
        "started_at": info.started_at,
        "finished_at": info.ended_at if ended else None,
    }


def _overdue(info: BuildInfo) -> bool:
    return info.ended_at is None or timezone.now() - info.ended_at > EVIDENCE_WAIT


def _renewer(lease: Lease) -> Callable[[], None]:
    """What keeps the lease while AWS is asked one thing after the other."""
    renewed = time.monotonic()

    def tick() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > RENEW_EVERY:
            renewed = lease.renew()

    return tick


def _summary(evidence: ReportEvidence) -> dict[str, Any]:
    covered = evidence.coverage.sum() if evidence.coverage else None
    lines = {"lines_covered": covered.lines_covered, "lines_total": covered.lines_total} if covered else {}
    return {
        "name": evidence.info.group,
        "status": evidence.info.status,
        "parsed": evidence.parsed,
        "failed": evidence.outcomes[Outcome.FAILED],
        "errors": evidence.outcomes[Outcome.ERROR],
        "skipped": evidence.outcomes[Outcome.SKIPPED],
        **lines,
        "problem": evidence.problem,
        "files": [
            {"key": file.key, "version": file.version, "sha256": file.sha256} for file in evidence.files
        ],
    }
