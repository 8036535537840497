"""Small makers of rows; a test names only the fields that it is about."""

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from django.utils import timezone

from apps.access.models import Token, User
from apps.access.services import create_token
from apps.builds.coverage import pack
from apps.builds.models import (
    Build,
    CaseState,
    CoveredFiles,
    Quarantine,
    Report,
    ReportGroup,
    TestCase,
    TestResult,
)
from apps.builds.parsers.file_coverage import FileCoverage, add_up
from apps.catalog.models import ApproverGroup, Environment, Membership, Service, Upstream
from apps.deployments.models import Deployment, FlightRecord, HookEvent, Occupancy, Target
from apps.gates.models import Decision, Policy
from apps.gates.verdicts import Finding, Verdict
from apps.promotions.models import Override, Pin, Promotion, Standing, Veto, Window
from apps.releases.models import Release

PASSWORD = "correct-horse-battery"
NUMBERS = count(1)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def make_user(username: str = "", **fields: Any) -> User:
    username = username or f"user-{next(NUMBERS)}"
    return User.objects.create_user(username, password=fields.pop("password", PASSWORD), **fields)


def make_member(service: Service, *roles: str, username: str = "", **fields: Any) -> User:
    """A user with these roles in the service."""
    user = make_user(username, **fields)
    for role in roles:
        Membership.objects.create(user=user, service=service, role=role)
    return user


def make_token(user: User, *scopes: str, **fields: Any) -> tuple[Token, str]:
    """A token of the user and its secret; all scopes unless some are named."""
    scopes = scopes or ("read", "ci", "approve", "operate")
    return create_token(user=user, name=f"token-{next(NUMBERS)}", scopes=scopes, **fields)


def make_service(slug: str = "", **fields: Any) -> Service:
    slug = slug or f"service-{next(NUMBERS)}"
    defaults = {"name": slug.title(), "bucket": f"{slug}-bundles", "codebuild_project": slug}
    return Service.objects.create(slug=slug, **{**defaults, **fields})


def make_environment(
    service: Service | None = None,
    slug: str = "staging",
    *,
    upstreams: tuple[Environment, ...] = (),
    **fields: Any,
) -> Environment:
    service = service or make_service()
    defaults = {"application": service.slug, "deployment_group": slug}
    environment = Environment.objects.create(service=service, slug=slug, **{**defaults, **fields})
    for source in upstreams:
        Upstream.objects.create(environment=environment, source=source)
    return environment


def make_group(service: Service, name: str = "release-managers", *members: User) -> ApproverGroup:
    group = ApproverGroup.objects.create(service=service, name=name)
    group.members.add(*members)
    return group


def make_build(service: Service | None = None, **fields: Any) -> Build:
    service = service or make_service()
    number = next(NUMBERS)
    defaults = {
        "codebuild_id": f"{service.codebuild_project}:00000000-0000-4000-8000-{number:012d}",
        "number": number,
        "commit": f"{number:040x}",
        "status": Build.Status.SUCCEEDED,
        "deviations": [],
        "started_at": LONG_AGO,
        "finished_at": LONG_AGO + timedelta(minutes=2),
        "collected_at": LONG_AGO + timedelta(minutes=3),
    }
    return Build.objects.create(service=service, **{**defaults, **fields})


def make_report(
    build: Build, *, name: str = "unit", passed: int = 10, failed: int = 0, **fields: Any
) -> Report:
    """A complete report whose counts agree."""
    total = passed + failed + fields.get("errors", 0) + fields.get("skipped", 0) + fields.get("unknown", 0)
    defaults = {
        "arn": f"arn:aws:codebuild:eu-central-1:123456789012:report/{name}:{next(NUMBERS)}",
        "type": "TEST",
        "status": "FAILED" if failed else "SUCCEEDED",
        "declared": total,
        "returned": total,
        "parsed": total,
    }
    return Report.objects.create(
        build=build, name=name, passed=passed, failed=failed, **{**defaults, **fields}
    )


def make_coverage(build: Build, *, name: str = "coverage", **fields: Any) -> Report:
    """A complete coverage report; ``files`` are its (covered, total) lines by path."""
    counts = fields.pop("files", {"app/a.py": (8, 10), "app/b.py": (0, 10)})
    files = [FileCoverage(path, covered, total) for path, (covered, total) in counts.items()]
    summed = add_up(files)
    report = make_report(
        build,
        name=name,
        passed=0,
        type="CODE_COVERAGE",
        **{
            **dict.fromkeys(("declared", "returned", "parsed")),
            "lines_covered": summed.lines_covered,
            "lines_total": summed.lines_total,
            **fields,
        },
    )
    CoveredFiles.objects.create(report=report, packed=pack(files))
    return report


def make_result(report: Report, *, name: str = "", status: str = "FAILED", **fields: Any) -> TestResult:
    """A case that did not pass."""
    number = next(NUMBERS)
    case = TestCase.objects.create(
        id=number,
        service=report.build.service,
        group=report.name,
        class_name="tests.test_example",
        name=name or f"test_{number}",
    )
    return TestResult.objects.create(report=report, case=case, status=status, **fields)


def make_state(result: TestResult, state: str = "flaky", **fields: Any) -> CaseState:
    """What the runs of a case that failed say of it."""
    case, report = result.case, result.report
    group, _ = ReportGroup.objects.get_or_create(service=case.service, name=case.group)
    if case.position is None:
        case.report_group, case.position = group, group.size
        group.size += 1
        group.save()
        case.save()
    counts = {"runs": 20, "failures": 4, "transitions": 6, "commits": 1, "score": 316}
    defaults = {"service": case.service, "group": group, "since": report.created_at, "report": report}
    return CaseState.objects.create(case=case, state=state, **{**counts, **defaults, **fields})


def make_quarantine(case: TestCase, **fields: Any) -> Quarantine:
    """A quarantine in force, for a week."""
    defaults = {"reason": "Known to fail.", "until": timezone.now() + timedelta(days=7)}
    by = fields.pop("by", None) or make_user()
    return Quarantine.objects.create(case=case, by=by, **{**defaults, **fields})


def make_release(service: Service | None = None, *, build: Build | None = None, **fields: Any) -> Release:
    service = service or (build.service if build else make_service())
    build = build or make_build(service)
    digest = fields.pop("digest", "") or hashlib.sha256(str(next(NUMBERS)).encode()).hexdigest()
    if not build.exports:
        # As a build that published this bundle says it.
        build.exports = {"LOCKKEEPER_BUNDLE_SHA256": digest}
        build.save(update_fields=["exports"])
    defaults = {
        "version": f"0.1.0+{build.commit[-12:]}",
        "commit": build.commit,
        "bucket": service.bucket,
        "key": f"releases/{service.slug}/{digest}.tar",
        "object_version": "1",
        "etag": f'"{digest[:32]}"',
        "size": 1_000_000,
        "manifest": {"schema": 1, "service": service.slug, "files": {}, "migrations": []},
        "steps": [],
    }
    return Release.objects.create(service=service, build=build, digest=digest, **{**defaults, **fields})


def make_policy(environment: Environment, rules: list[dict[str, Any]] | None = None, **fields: Any) -> Policy:
    newest = environment.policies.order_by("-version").first()
    version = newest.version + 1 if newest else 1
    return Policy.objects.create(environment=environment, rules=rules or [], **{"version": version, **fields})


def make_decision(
    environment: Environment, release: Release, verdict: str = "pass", **fields: Any
) -> Decision:
    """A decision by the environment's newest policy, which is made where there is none."""
    policy = environment.policies.order_by("-version").first() or make_policy(environment)
    finding = Finding(Verdict(verdict), "An example.", rule="example").to_json()
    defaults = {"policy": policy, "facts": {}, "findings": [finding], "evaluated_at": timezone.now()}
    return Decision.objects.create(
        environment=environment, release=release, verdict=verdict, **{**defaults, **fields}
    )


def make_promotion(
    environment: Environment | None = None, release: Release | None = None, **fields: Any
) -> Promotion:
    environment = environment or make_environment()
    release = release or make_release(environment.service)
    requested_by = fields.pop("requested_by", None) or make_user()
    return Promotion.objects.create(
        environment=environment, release=release, requested_by=requested_by, **fields
    )


def make_pin(environment: Environment, release: Release, **fields: Any) -> Pin:
    """Somebody holds the environment at the release, until it is lifted unless told otherwise."""
    defaults = {"reason": "A hotfix is on its way.", "by": fields.pop("by", None) or make_user()}
    return Pin.objects.create(environment=environment, release=release, **{**defaults, **fields})


def make_veto(release: Release, environment: Environment | None = None, **fields: Any) -> Veto:
    """Somebody has vetoed the release, everywhere unless an environment is named."""
    defaults = {"reason": "It loses orders.", "by": fields.pop("by", None) or make_user()}
    return Veto.objects.create(release=release, environment=environment, **{**defaults, **fields})


def make_override(promotion: Promotion, **fields: Any) -> Override:
    """An operator lets the promotion pass against everything, for an hour."""
    defaults = {"justification": "The site is down.", "by": fields.pop("by", None) or make_user()}
    defaults["expires_at"] = timezone.now() + timedelta(hours=1)
    return Override.objects.create(promotion=promotion, **{**defaults, **fields})


def make_standing(environment: Environment, release: Release, *sentences: str, **fields: Any) -> Standing:
    """The release runs there and would still be let in, unless sentences say why not."""
    unmet = [
        {
            "rule": "example",
            "verdict": "blocked",
            "sentence": each,
            "who": "",
            "evidence": {},
            "earliest": None,
        }
        for each in sentences
    ]
    defaults = {
        "verdict": "blocked" if unmet else "pass",
        "unmet": unmet,
        "still_passes": not unmet,
        "since": timezone.now(),
        "judged_at": timezone.now(),
    }
    return Standing.objects.create(environment=environment, release=release, **{**defaults, **fields})


def make_window(environment: Environment | None = None, **fields: Any) -> Window:
    """Open every night from 22:00 to 23:00 UTC, since long ago."""
    defaults = {
        "kind": "allow",
        "name": f"window-{next(NUMBERS)}",
        "starts_at": "2026-01-01T22:00",
        "timezone": "UTC",
        "minutes": 60,
        "rrule": "FREQ=DAILY",
    }
    return Window.objects.create(environment=environment or make_environment(), **{**defaults, **fields})


def make_deployment(
    environment: Environment | None = None, release: Release | None = None, **fields: Any
) -> Deployment:
    environment = environment or make_environment()
    release = release or make_release(environment.service)
    defaults = {"status": Deployment.Status.SUCCEEDED, "codedeploy_id": f"d-{next(NUMBERS):09d}"}
    return Deployment.objects.create(environment=environment, release=release, **{**defaults, **fields})


def make_target(deployment: Deployment, target_id: str = "staging-1", *events: str, **fields: Any) -> Target:
    """A host in the deployment, with lifecycle events of these names that went well."""
    target = Target.objects.create(
        deployment=deployment, target_id=target_id, **{"status": "Succeeded", **fields}
    )
    for position, name in enumerate(events):
        HookEvent.objects.create(target=target, position=position, name=name, status="Succeeded")
    return target


def make_document(event: HookEvent, **fields: Any) -> dict[str, Any]:
    """A flight record's document as a host writes it."""
    deployment = event.target.deployment
    release = deployment.release
    assert release is not None
    step = {"text": "Environment", "started_s": 0.1, "seconds": 1.5, "result": "succeeded"}
    return {
        "schema": 1,
        "deployment_id": deployment.codedeploy_id,
        "host": event.target.target_id,
        "application": deployment.environment.application,
        "group": deployment.environment.deployment_group,
        "event": event.name,
        "digest": release.digest,
        "version": release.version,
        "started_at": "2026-01-01T12:00:00Z",
        "seconds": 2.5,
        "exit_code": 0,
        "result": "succeeded",
        "error": "",
        "cause": None,
        "steps": [{"name": "environment", **step}],
        "tail": ["-----> Environment"],
        "migrations": None,
        "bundle": {"bucket": release.bucket, "key": release.key, "version": "1", "etag": release.etag},
        **fields,
    }


def make_record(event: HookEvent, **fields: Any) -> FlightRecord:
    """The flight record of an event; ``fields`` are the document's."""
    document = make_document(event, **fields)
    return FlightRecord.objects.create(
        event=event,
        key=f"flight/{event.target.target_id}/{event.name}.json",
        etag="0" * 32,
        document=document,
        result=document["result"],
        cause=document["cause"] or "",
        seconds=document["seconds"],
        read_at=timezone.now(),
    )


def make_occupancy(deployment: Deployment, **fields: Any) -> Occupancy:
    """The deployment's release in its environment, from now on unless told otherwise."""
    assert deployment.release is not None
    return Occupancy.objects.create(
        environment=deployment.environment,
        release=deployment.release,
        deployment=deployment,
        **{"since": timezone.now(), **fields},
    )
