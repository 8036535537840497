"""The admin's first page: what runs in each environment, and what waits before it."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest

from apps.admin_base import LABELS
from apps.catalog.models import Environment, Service
from apps.catalog.visibility import visible
from apps.deployments.models import HookEvent, Occupancy
from apps.promotions.admin import why
from apps.promotions.health import health_of, open_pin, with_condition
from apps.promotions.models import Promotion

RECENT = 8
SERVICES = 20  # on a page


def overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's DASHBOARD_CALLBACK: eight queries, however much there is.

    Services in which something waits or is under way come first.
    """
    promotions = visible(
        Promotion.objects.select_related("environment__service", "release", "decision", "requested_by"),
        request.user,
        "environment__service",
    ).defer("release__manifest", "release__steps", "decision__facts")
    coming = promotions.exclude(status__in=Promotion.FINAL)
    busy = Promotion.objects.exclude(status__in=Promotion.FINAL).filter(environment__service=OuterRef("pk"))
    services = visible(Service.objects.all(), request.user, "").order_by(Exists(busy).desc(), "slug")
    page = Paginator(services, SERVICES).get_page(request.GET.get("page"))
    environments = visible(
        Environment.objects.select_related("service", "standing__release"), request.user, "service"
    )
    unfit = environments.filter(standing__still_passes=False).order_by("service__slug", "position", "slug")
    recent = [_card(promotion) for promotion in promotions.filter(status__in=Promotion.FINAL)[:RECENT]]
    shown = [service.pk for service in page]
    return {
        **context,
        "title": "Overview",
        "page": page,
        "services": _stages(
            environments.filter(service__in=shown), list(coming.filter(environment__service__in=shown)), page
        ),
        "unfit": unfit[:SERVICES],
        "recent": recent,
    }


def _stages(
    environments: QuerySet[Environment], coming: Iterable[Promotion], services: Iterable[Service]
) -> dict[str, list[dict[str, Any]]]:
    """By service, its environments with what runs in each, how well, and what is to be brought there."""
    runs = {
        row.environment_id: row
        for row in Occupancy.objects.current()
        .filter(environment__in=environments.values("pk"))
        .select_related("release")
        .defer("release__manifest", "release__steps")
    }
    cards: dict[int, list[dict[str, Any]]] = defaultdict(list)
    steps = _steps([promotion.deployment_id for promotion in coming if promotion.deployment_id])
    for promotion in coming:
        card = _card(promotion)
        if promotion.deployment_id:
            card["why"] = "; ".join(steps[promotion.deployment_id])
        cards[promotion.environment_id].append(card)

    stages: dict[str, list[dict[str, Any]]] = {service.slug: [] for service in services}
    for environment in with_condition(environments).order_by("position", "slug"):
        here, pin = runs.get(environment.pk), open_pin(environment)
        health = health_of(environment, here.release_id if here else None)
        stages[environment.service.slug].append(
            {
                "environment": environment,
                "runs": here,
                "health": health,
                "colour": LABELS.get(health.state, ""),
                "pin": pin if pin and pin.stands else None,
                "coming": cards[environment.pk],
            }
        )
    # One without environments has nothing to show.
    return {slug: its for slug, its in stages.items() if its}


def _steps(deployments: list[int]) -> dict[int, list[str]]:
    """How far each host of these deployments is, as in "staging-1: AfterInstall InProgress"."""
    begun = HookEvent.objects.filter(target__deployment__in=deployments).exclude(status="Pending")
    rows = begun.order_by("target__target_id", "position").values_list(
        "target__deployment", "target__target_id", "name", "status"
    )
    last = {(deployment, host): f"{host}: {name} {status}" for deployment, host, name, status in rows}
    steps: dict[int, list[str]] = defaultdict(list)
    for (deployment, _), step in last.items():
        steps[deployment].append(step)
    return steps


def _card(promotion: Promotion) -> dict[str, Any]:
    decision = promotion.decision
    pending = promotion.status == Promotion.Status.PENDING
    state = decision.verdict if pending and decision else promotion.status
    return {
        "promotion": promotion,
        "label": decision.get_verdict_display() if pending and decision else promotion.status,
        "colour": LABELS.get(state, ""),
        "why": why(promotion),
    }
