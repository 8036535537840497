"""Facts for rules; a test names only those that it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from apps.gates.facts import (
    ApprovalFact,
    BuildFact,
    ComparisonFact,
    Facts,
    FailureFact,
    HealthFact,
    PersonFact,
    PromotionFact,
    QuarantineFact,
    ReportFact,
    RunningFact,
    UpstreamFact,
    WindowFact,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANN = PersonFact(id=1, username="ann")
BEN = PersonFact(id=2, username="ben")
CEM = PersonFact(id=3, username="cem")


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def build_fact(**fields: Any) -> BuildFact:
    """A build that ended half an hour before noon and has been read."""
    defaults: dict[str, Any] = {
        "id": 7,
        "codebuild_id": "project:7",
        "status": "SUCCEEDED",
        "deviations": (),
        "registered_at": NOON - hours(1),
        "finished_at": NOON - hours(0.5),
        "collected_at": NOON - hours(0.4),
        "problem": "",
        "log_url": "https://logs.example/7",
    }
    return BuildFact(**{**defaults, **fields})


def running_build(**fields: Any) -> BuildFact:
    defaults: dict[str, Any] = {
        "status": "IN_PROGRESS",
        "registered_at": NOON - hours(0.5),
        "deviations": None,
        "finished_at": None,
        "collected_at": None,
    }
    return build_fact(**{**defaults, **fields})


def report_fact(name: str = "unit", **fields: Any) -> ReportFact:
    """A complete test report of ten cases that passed."""
    defaults: dict[str, Any] = {
        "id": 3,
        "type": "TEST",
        "status": "SUCCEEDED",
        "complete": True,
        "problem": "",
        "declared": 10,
        "returned": 10,
        "parsed": 10,
        "passed": 10,
        "failed": 0,
        "errors": 0,
        "skipped": 0,
        "unknown": 0,
        "duration_ns": 10_000_000_000,
    }
    return ReportFact(name=name, **{**defaults, **fields})


def coverage_fact(
    covered: int | None = 9, total: int | None = 10, name: str = "coverage", **fields: Any
) -> ReportFact:
    """A complete coverage report."""
    defaults: dict[str, Any] = {
        "type": "CODE_COVERAGE",
        **dict.fromkeys(("declared", "returned", "parsed")),
        "passed": 0,
        "lines_covered": covered,
        "lines_total": total,
    }
    return report_fact(name, **{**defaults, **fields})


def running_fact(*reports: ReportFact, **fields: Any) -> RunningFact:
    """Release 1.1.0 runs in the environment, with these reports."""
    defaults: dict[str, Any] = {
        "release_id": 41,
        "version": "1.1.0",
        "digest": "c" * 64,
        "since": NOON - hours(48),
    }
    return RunningFact(reports=reports, **{**defaults, **fields})


def comparison_fact(group: str = "unit", **fields: Any) -> ComparisonFact:
    """A report group in which nothing changed against what runs."""
    defaults: dict[str, Any] = {
        "new_failures": 0,
        "vanished": 0,
        "first_new_failures": (),
        "first_vanished": (),
        "problem": "",
    }
    return ComparisonFact(group=group, **{**defaults, **fields})


def failure_fact(name: str = "tests.Case::test", **fields: Any) -> FailureFact:
    return FailureFact(name=name, **{"report": "unit", "status": "FAILED", "message": "1 != 2", **fields})


def quarantine_fact(name: str = "tests.Case::test", **fields: Any) -> QuarantineFact:
    """ben has quarantined the test for a week."""
    defaults: dict[str, Any] = {
        "id": 13,
        "report": "unit",
        "by": BEN,
        "reason": "see #12",
        "at": NOON - hours(24),
        "until": NOON + hours(144),
    }
    return QuarantineFact(name=name, **{**defaults, **fields})


def upstream_fact(slug: str = "staging", **fields: Any) -> UpstreamFact:
    """An upstream where the release never was."""
    defaults: dict[str, Any] = {
        "id": 5,
        "deployment_id": None,
        "since": None,
        "until": None,
        "promotion_id": None,
        "promotion_at": None,
    }
    return UpstreamFact(slug=slug, **{**defaults, **fields})


def been(slug: str, **fields: Any) -> UpstreamFact:
    return upstream_fact(slug, **{"deployment_id": 11, "since": NOON - hours(2), **fields})


def approval_fact(user: PersonFact, **fields: Any) -> ApprovalFact:
    return ApprovalFact(user=user, **{"approved": True, "at": NOON - hours(0.1), "counts": True, **fields})


def health_fact(**fields: Any) -> HealthFact:
    """Healthy since two hours before noon."""
    defaults: dict[str, Any] = {
        "state": "healthy",
        "since": NOON - hours(2),
        "reason": "Deployment d-1 of 1.2.0 succeeded on all 2 hosts.",
        "deployment_id": 12,
    }
    return HealthFact(**{**defaults, **fields})


def window_fact(
    starts_at: str = "2026-01-01T22:00",
    minutes: int = 60,
    rrule: str = "",
    timezone: str = "UTC",
    **fields: Any,
) -> WindowFact:
    """An allow that opens once, unless there is a rule."""
    defaults: dict[str, Any] = {"id": 8, "name": "night", "kind": "allow"}
    return WindowFact(
        starts_at=starts_at, minutes=minutes, rrule=rrule, timezone=timezone, **{**defaults, **fields}
    )


def facts(**fields: Any) -> Facts:
    """A release of a good build with one complete report, asked for by ann; ben and cem may approve."""
    defaults: dict[str, Any] = {
        "service": "shop",
        "environment": "production",
        "release_id": 42,
        "release_version": "1.2.0",
        "release_digest": "d" * 64,
        "build": build_fact(),
        "reports": (report_fact(),),
        "failures": (),
        "upstreams": (),
        "upstream_mode": "all",
        "promotion": PromotionFact(id=9, requested_by=ANN, requested_at=NOON - hours(0.2)),
        "approvals": (),
        "approvers": (BEN, CEM),
    }
    return Facts(**{**defaults, **fields})
