"""The admin's first page: what runs in each environment, and what waits before it."""

from collections import defaultdict
from typing import Any

from django.http import HttpRequest

from apps.admin_base import LABELS
from apps.catalog.models import Environment
from apps.catalog.visibility import visible
from apps.deployments.models import HookEvent, Occupancy
from apps.promotions.admin import why
from apps.promotions.health import health_of, open_pin, with_condition
from apps.promotions.models import Promotion

RECENT = 8


def overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's DASHBOARD_CALLBACK: five queries, however much there is."""
    rows = with_condition(Environment.objects.select_related("service", "standing__release"))
    environments = visible(rows, request.user, "service").order_by("service__slug", "position", "slug")
    here = visible(Occupancy.objects.current(), request.user, "environment__service")
    runs = {
        row.environment_id: row
        for row in here.select_related("release").defer("release__manifest", "release__steps")
    }

    promotions = visible(
        Promotion.objects.select_related("environment__service", "release", "decision", "requested_by"),
        request.user,
        "environment__service",
    ).defer("release__manifest", "release__steps", "decision__facts")
    coming: dict[int, list[dict[str, Any]]] = defaultdict(list)
    open_ones = list(promotions.exclude(status__in=Promotion.FINAL))
    steps = _steps([promotion.deployment_id for promotion in open_ones if promotion.deployment_id])
    for promotion in open_ones:
        card = _card(promotion)
        if promotion.deployment_id:
            card["why"] = "; ".join(steps[promotion.deployment_id])
        coming[promotion.environment_id].append(card)

    services: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for environment in environments:
        here_now, pin = runs.get(environment.pk), open_pin(environment)
        health = health_of(environment, here_now.release_id if here_now else None)
        services[environment.service.slug].append(
            {
                "environment": environment,
                "runs": here_now,
                "health": health,
                "colour": LABELS.get(health.state, ""),
                "pin": pin if pin and pin.stands else None,
                "coming": coming[environment.pk],
            }
        )
    unfit = [
        environment
        for environment in environments
        if (standing := getattr(environment, "standing", None)) and standing.still_passes is False
    ]
    recent = [_card(promotion) for promotion in promotions.filter(status__in=Promotion.FINAL)[:RECENT]]
    return {**context, "title": "Overview", "services": dict(services), "unfit": unfit, "recent": recent}


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
