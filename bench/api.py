"""CPU of each list of the REST API for 50 rows, against a plain ModelViewSet and against json_agg in SQL.

- ours: the whole request through the WSGI application, with middleware, token and permissions; of a
  superuser, who sees everything, and of a member of all services, for whom each query asks which those are.
- plain: the same way to a ModelViewSet with DRF's ModelSerializer and JSONRenderer, the same rows with the
  same values, its relations loaded by select_related and prefetch_related.
- json_agg: the statements that ours sends for rows, each wrapped so that PostgreSQL makes JSON of them, with
  no request around them.

CPU of this process for each (ms per request, medians of batches in turns), and of PostgreSQL's session.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from io import BytesIO
from typing import Any

from bench import _django

_django.set_up()

from django.db import connection
from django.db.models import JSONField, Model, Prefetch, QuerySet, Subquery
from django.db.models.functions import Cast
from django.urls import include, path
from django.utils import timezone
from rest_framework.renderers import JSONRenderer
from rest_framework.routers import SimpleRouter
from rest_framework.serializers import Field, ModelSerializer, ReadOnlyField, Serializer
from rest_framework.viewsets import ModelViewSet

from apps.access.models import Token, User
from apps.access.services import create_token
from apps.as_json import as_object
from apps.builds.api import BuildSerializer, BuiltReleaseSerializer, bundle
from apps.builds.case_api import TestCaseSerializer
from apps.builds.coverage import COVERAGE, share
from apps.builds.flaky_api import CaseStateSerializer
from apps.builds.models import Build, CaseState, Quarantine, Report, TestCase, TestResult
from apps.builds.report_api import ReportOfBuildSerializer, TestResultSerializer
from apps.builds.trends import COLUMNS as TREND_COLUMNS
from apps.builds.trends import COUNTERS, read_builds
from apps.catalog.api import EnvironmentSerializer, ServiceSerializer, StandingSerializer
from apps.catalog.models import Environment, Membership, Service
from apps.catalog.visibility import VisibleMixin
from apps.deployments.api import (
    DeploymentBriefSerializer,
    DeploymentSerializer,
    HookEventSerializer,
    TargetDetailSerializer,
)
from apps.deployments.models import Deployment, HookEvent, Occupancy, Target
from apps.gates.api import DecisionSerializer
from apps.gates.models import Decision
from apps.gates.windows import is_open, next_openings
from apps.promotions.api import PromotionSerializer
from apps.promotions.hold_api import PinSerializer, VetoSerializer
from apps.promotions.models import Approval, Override, Pin, Promotion, Veto, Window
from apps.promotions.override_api import OverrideSerializer
from apps.promotions.quarantine_api import QuarantineSerializer
from apps.promotions.reconcile import Reconciler
from apps.promotions.window_api import OPENINGS_SHOWN, WindowSerializer
from apps.releases.api import ReleaseSerializer
from apps.releases.models import Release
from backend import urls
from backend.wsgi import application
from bench import _processor, _world

SIZE = _world.Size(services=60, builds=10, cases=2_000, environments=3)
ROWS, BATCH, BATCHES = 50, 10, 5
LIMIT_MS = 2.0
LISTS = (
    "services",
    "environments",
    "builds",
    "reports",
    "cases",
    "trends",
    "releases",
    "deployments",
    "decisions",
    "promotions",
    "pins",
    "vetoes",
    "windows",
    "overrides",
    "quarantines",
    "case-states",
)


def plain(
    model: type[Model], columns: Iterable[str], **nested: type[ModelSerializer] | Field
) -> type[ModelSerializer]:
    """A ModelSerializer with the values that ours has: own columns, those of relations, and rows below."""
    declared: dict[str, Any] = {
        name: each if isinstance(each, Field) else each(many=True) for name, each in nested.items()
    }
    own = {field.name for field in model._meta.concrete_fields}
    names = [*declared]
    for column in columns:
        names.append(column)
        if column not in own:
            source = column.replace("__", ".") + (".pk" if is_relation(model, column) else "")
            declared[column] = ReadOnlyField() if source == column else ReadOnlyField(source=source)
    meta = type("Meta", (), {"model": model, "fields": names})
    return type(f"Plain{model.__name__}", (ModelSerializer,), {**declared, "Meta": meta})


def is_relation(model: type[Model], column: str) -> bool:
    """Whether a lookup ends at another row, and so stands for its key; an annotation does not."""
    *steps, last = column.split("__")
    for step in steps:
        model = model._meta.get_field(step).related_model  # type: ignore[assignment]  # a relation's is a model
    return any(field.name == last and field.is_relation for field in model._meta.get_fields())


class Brief(Field):
    """Findings without their evidence."""

    def to_representation(self, findings: list[dict[str, Any]]) -> Any:
        return [{name: each[name] for name in each if name != "evidence"} for each in findings]


class Openings(Field):
    """When a window opens next, which gates.windows works out for both."""

    def to_representation(self, window: Window) -> Any:
        now = timezone.now()
        openings = next_openings(window.fact(), now, OPENINGS_SHOWN)
        return [
            is_open(window.fact(), now),
            [{"opens": opens, "shuts": shuts} for opens, shuts in openings],
        ]


class Totals(Field):
    """What the reports of a build add up to."""

    def to_representation(self, build: Build) -> Any:
        reports = list(build.reports.all())
        tests = [each for each in reports if each.type != COVERAGE]
        counts = {name: sum(getattr(each, name) for each in tests) for name in COUNTERS}
        covered = [each for each in reports if each.type == COVERAGE and each.lines_total is not None]
        lines = sum(each.lines_covered or 0 for each in covered)
        total = sum(each.lines_total or 0 for each in covered)
        return {
            "tests": sum(counts.values()),
            **counts,
            "pass_rate": share(counts["passed"], counts["passed"] + counts["failed"] + counts["errors"]),
            "duration_ns": sum(each.duration_ns for each in tests),
            "lines_covered": lines if covered else None,
            "lines_total": total if covered else None,
            "line_rate": share(lines, total),
            "complete": all(each.complete for each in reports),
        }


def plain_views(
    serializer: type[ModelSerializer], rows: QuerySet[Any], service: str, *related: Any
) -> type[ModelViewSet]:
    joined = [each for each in related if isinstance(each, str)]
    fetched = [each for each in related if not isinstance(each, str)]
    queryset = rows.select_related(*joined) if joined else rows
    attributes = {
        "queryset": queryset.prefetch_related(*fetched),
        "serializer_class": serializer,
        "renderer_classes": [JSONRenderer],
        "service_path": service,
    }
    return type(f"{serializer.__name__}ViewSet", (VisibleMixin, ModelViewSet), attributes)


RELEASE = ("release_id", "release__version", "release__commit", "release__digest")


def columns(ours: type[Serializer[Any]], **instead: Iterable[str]) -> list[str]:
    """What ours tells; of what PostgreSQL puts together the columns ``instead``, none for rows below."""
    return [
        column
        for name, field in ours().fields.items()
        for column in instead.get(name, [str(field.source).replace(".", "__")])
    ]


def register_plain() -> None:
    """Under /plain/, by the same names."""
    place = ("environment__service", "environment__service")
    event = plain(HookEvent, HookEventSerializer().fields)
    target = plain(Target, TargetDetailSerializer.columns, events=event)
    own = columns(DeploymentSerializer, release=RELEASE, targets=[])
    deployment = plain(Deployment, own, targets=target)
    approval = plain(Approval, ("user__username", "verdict", "comment", "created_at", "withdrawn_at"))
    promotion = plain(
        Promotion,
        columns(
            PromotionSerializer,
            release=RELEASE,
            final=[],
            findings=[],
            deployment=[f"deployment__{each}" for each in DeploymentBriefSerializer().fields],
            approvals=[],
        ),
        approvals=approval,
        findings=Brief(source="decision.findings"),
    )
    told = columns(DecisionSerializer, release=RELEASE, policy=["policy_id", "policy__version"], findings=[])
    decision = plain(Decision, told, findings=Brief())
    standing = [f"standing__{each}" for each in columns(StandingSerializer)]
    environment = plain(
        Environment,
        columns(EnvironmentSerializer, standing=standing, upstreams=[]),
        upstreams=plain(Environment, ["slug"]),
    )
    people = Prefetch("approvals", Approval.objects.select_related("user"))
    build = plain(Build, columns(BuildSerializer, release=["made"], final=[]))
    # Its release as a dictionary, which DRF's renderer needs.
    made = Cast(Subquery(bundle().values(told=as_object(BuiltReleaseSerializer))[:1]), JSONField())
    builds = Build.objects.annotate(**BuildSerializer.annotations).annotate(made=made)
    results = TestResult.objects.filter(report__build=newest_build())
    report = plain(
        Report,
        columns(
            ReportOfBuildSerializer,
            asserted_by=["asserted_by__username"],
            service=["build__service__slug"],
            codebuild_id=["build__codebuild_id"],
            commit=["build__commit"],
        ),
    )
    window = plain(Window, WindowSerializer.columns, openings=Openings(source="*", read_only=True))
    quarantine = plain(Quarantine, columns(QuarantineSerializer))
    # Of one case there may be several; a model has them all.
    known = Prefetch("case__quarantines", Quarantine.objects.select_related("by"))
    state = plain(
        CaseState,
        columns(CaseStateSerializer, behaviour=[], quarantine=[]),
        quarantines=quarantine(source="case.quarantines", many=True),
    )
    views = {
        "services": plain_views(plain(Service, columns(ServiceSerializer)), Service.objects.all(), ""),
        "environments": plain_views(
            environment,
            Environment.objects.all(),
            "service",
            "service",
            "standing__release",
            Prefetch("upstreams"),
        ),
        "builds": plain_views(build, builds, "service", "service", "requested_by"),
        "reports": plain_views(
            report, Report.objects.all(), "build__service", "build__service", "asserted_by"
        ),
        "cases": plain_views(
            plain(TestCase, columns(TestCaseSerializer)), TestCase.objects.all(), "service", "service"
        ),
        "trends": plain_views(
            plain(Build, TREND_COLUMNS, totals=Totals(source="*", read_only=True)),
            read_builds(),
            "service",
            "service",
            Prefetch("reports"),
        ),
        "results": plain_views(
            plain(TestResult, columns(TestResultSerializer)),
            results,
            "report__build__service",
            "report",
            "case",
        ),
        "releases": plain_views(
            plain(Release, columns(ReleaseSerializer, build=["build_id", "build__codebuild_id"])),
            Release.objects.all(),
            "service",
            "service",
            "build",
        ),
        "deployments": plain_views(
            deployment, Deployment.objects.all(), *place, "release", "promotion", Prefetch("targets__events")
        ),
        "decisions": plain_views(decision, Decision.objects.all(), *place, "release", "policy"),
        "promotions": plain_views(
            promotion,
            Promotion.objects.all(),
            *place,
            "release",
            "requested_by",
            "decision",
            "deployment",
            people,
        ),
        "pins": plain_views(
            plain(Pin, columns(PinSerializer, release=RELEASE)),
            Pin.objects.all(),
            *place,
            "release",
            "by",
            "lifted_by",
        ),
        "vetoes": plain_views(
            plain(Veto, columns(VetoSerializer, release=RELEASE)),
            Veto.objects.all(),
            "release__service",
            "release__service",
            "environment",
            "by",
            "lifted_by",
        ),
        "windows": plain_views(window, Window.objects.all(), *place),
        "overrides": plain_views(
            plain(Override, columns(OverrideSerializer)),
            Override.objects.all(),
            *[f"promotion__{each}" for each in place],
            "by",
            "seconded_by",
            "withdrawn_by",
        ),
        "quarantines": plain_views(
            quarantine, Quarantine.objects.all(), "case__service", "case__service", "by", "lifted_by"
        ),
        "case-states": plain_views(
            state, CaseState.objects.all(), "service", "service", "group", "case", "report", known
        ),
    }
    router = SimpleRouter()
    for name, view in views.items():
        router.register(name, view, basename=f"plain-{name}")
    urls.urlpatterns.insert(0, path("plain/", include(router.urls)))


def hold_some() -> None:
    """Pins, vetoes, overrides and flaky cases, more than a page holds; the world has none."""
    by, other = User.objects.filter(username__startswith="approver-").order_by("pk")[:2]
    now = timezone.now()
    said: dict[str, Any] = {"by": by, "created_at": now}
    lifted = {"lifted_at": now, "lifted_by": other}
    running = Occupancy.objects.filter(until=None).select_related("environment", "release")
    promotions = list(Promotion.objects.all()[: 2 * ROWS])
    Pin.objects.bulk_create(
        Pin(environment=each.environment, release=each.release, reason="A sale runs.", **said, **lifted)
        for each in running[: 2 * ROWS]
    )
    Veto.objects.bulk_create(
        Veto(environment=each.environment, release=each.release, reason="It leaks.", **said, **lifted)
        for each in running[: 2 * ROWS]
    )
    Override.objects.bulk_create(
        Override(
            promotion=each,
            rules=["in_window", "approved"],
            justification="The shop is down.",
            expires_at=now + timedelta(hours=1),
            seconded_by=other,
            seconded_at=now,
            **said,
        )
        for each in promotions
    )
    # As of most builds: integration tests and coverage, too.
    for name, kind in (("integration", "TEST"), ("coverage", COVERAGE)):
        Report.objects.bulk_create(
            Report(
                build=build,
                name=name,
                arn=f"arn:aws:codebuild:eu-central-1:123456789012:report/{name}:{build.pk}",
                type=kind,
                status="SUCCEEDED",
                parsed=0 if kind == COVERAGE else 400,
                passed=0 if kind == COVERAGE else 400,
                duration_ns=90_000_000_000,
                lines_covered=9_000 if kind == COVERAGE else None,
                lines_total=10_000 if kind == COVERAGE else None,
            )
            for build in Build.objects.all()
        )
    known = Quarantine.objects.select_related("case")[: 2 * ROWS]
    reports = {each.group_id: each for each in Report.objects.order_by("id")}  # the newest of each group
    CaseState.objects.bulk_create(
        CaseState(
            case=each.case,
            service_id=each.case.service_id,
            group_id=each.case.report_group_id,
            state=CaseState.State.FLAKY,
            score=250,
            runs=40,
            failures=10,
            transitions=10,
            commits=2,
            since=now,
            report=reports[each.case.report_group_id],
        )
        for each in known
    )


def newest_build() -> Build:
    build = Build.objects.order_by("-id").first()
    assert build is not None
    return build


class Site:
    """The WSGI application, asked with a token."""

    def __init__(self, secret: str) -> None:
        self.application, self.secret = application, secret

    def get(self, address: str) -> bytes:
        where, _, query = address.partition("?")
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": where,
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_AUTHORIZATION": f"Bearer {self.secret}",
            "wsgi.input": BytesIO(),
            "wsgi.url_scheme": "http",
        }
        statuses: list[str] = []
        response = self.application(environ, lambda status, headers: statuses.append(status))
        body = b"".join(response)
        response.close()
        assert statuses[0].startswith("200"), (address, statuses[0], body[:300])
        return body


def statements_of(ask: Callable[[], Any]) -> list[tuple[str, Any]]:
    """The SELECTs that a request sends for rows: all but those for its token."""
    found: list[tuple[str, Any]] = []

    def seen(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT") and "access_token" not in sql:
            found.append((f"SELECT json_agg(told)::text FROM ({sql}) told", params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(seen):
        ask()
    return found


def in_sql(statements: list[tuple[str, Any]]) -> None:
    with connection.cursor() as cursor:
        for sql, params in statements:
            cursor.execute(sql, params)
            cursor.fetchone()


def cpu_ms(ask: Callable[[], Any]) -> tuple[float, float]:
    """CPU of this process and of PostgreSQL, each in ms per call over a batch."""
    database, began = _processor.cpu_of_sessions(), time.process_time()
    for _ in range(BATCH):
        ask()
    own = time.process_time() - began
    return own * 1000 / BATCH, (_processor.cpu_of_sessions() - database) * 1000 / BATCH


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench api", description=__doc__)
    parser.parse_args()
    _world.fill(SIZE)
    # Those that wait, with findings and approvals; the many others were superseded before they were judged.
    Promotion.objects.exclude(status=Promotion.Status.PENDING).delete()
    reconciler = Reconciler()
    # Each once: where that takes long, the first are due again before the last have been judged.
    while Promotion.objects.pending().filter(decision=None).exists():
        reconciler.judge_promotions()
    while reconciler.judge_one_running_release():
        pass
    hold_some()
    site = Site(reader(User.objects.create(username="root", is_superuser=True)))
    member = User.objects.create(username="member")
    Membership.objects.bulk_create(
        Membership(user=member, service=service, role="viewer") for service in Service.objects.all()
    )
    of_member = Site(reader(member))
    register_plain()
    paths = {name: name for name in LISTS} | {"results": f"builds/{newest_build().pk}/results"}
    figures = []
    print(
        f"{'list':<14}{'ours':>8}{'a member':>10}{'plain':>8}{'times':>7}{'json_agg':>10}"
        f"{'ours, database':>16}   ms of CPU"
    )
    for name, address in paths.items():
        theirs = f"/plain/{name}/?page_size={ROWS}"
        figure = measure(site, of_member, f"/api/v1/{address}/?page_size={ROWS}", theirs)
        figures.append({"list": name, **figure})
        print(
            f"{name:<14}{figure['ours_ms']:>8}{figure['member_ms']:>10}{figure['plain_ms']:>8}"
            f"{figure['times_cheaper']:>7}"
            f"{figure['json_agg_ms']:>10}{figure['ours_database_ms']:>16}"
        )
    worst = max(figure[who] for figure in figures for who in ("ours_ms", "member_ms"))
    print(json.dumps({"bench": "api", "rows": ROWS, "worst_ms": worst, "lists": figures}))
    return 0 if worst <= LIMIT_MS else 1


def reader(user: User) -> str:
    """The secret of a token with which the user only reads."""
    token, secret = create_token(user=user, name="bench", scopes=["read"])
    # As of a client that asks often: its last use is written once a minute.
    Token.objects.filter(pk=token.pk).update(last_used_at=token.created_at)
    return secret


def measure(site: Site, of_member: Site, ours: str, theirs: str) -> dict[str, float]:
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: site.get(ours),
        "member": lambda: of_member.get(ours),
        "plain": lambda: site.get(theirs),
    }
    for address, ask in ((ours, ways["ours"]), (theirs, ways["plain"])):
        rows = len(json.loads(ask())["results"])
        assert rows == ROWS, f"{address} has {rows} rows"
    statements = statements_of(ways["ours"])
    ways["json_agg"] = lambda: in_sql(statements)
    for ask in ways.values():
        cpu_ms(ask)  # warm
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(BATCHES):
        for name, ask in ways.items():
            found[name].append(cpu_ms(ask))
    own = {name: statistics.median(own for own, _ in each) for name, each in found.items()}
    return {
        "ours_ms": round(own["ours"], 2),
        "member_ms": round(own["member"], 2),
        "plain_ms": round(own["plain"], 2),
        "times_cheaper": round(own["plain"] / own["ours"], 1),
        "json_agg_ms": round(own["json_agg"], 2),
        # In ticks of 10 ms. A session that ends takes its own along, so not the mean.
        "ours_database_ms": round(statistics.median(other for _, other in found["ours"]), 2),
        "json_agg_database_ms": round(statistics.median(other for _, other in found["json_agg"]), 2),
    }


if __name__ == "__main__":
    sys.exit(main())
