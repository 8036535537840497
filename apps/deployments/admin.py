"""Deployments, their hosts and events, and what runs where: reading only."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from apps.admin_base import LABELS, ReadOnlyAdmin, ReadOnlyInline, by_slug, only
from apps.deployments.foreign import origin_in_words
from apps.deployments.models import Deployment, HookEvent, Occupancy, Target
from apps.deployments.page import story


class HookEventInline(ReadOnlyInline):
    model = HookEvent
    fields = ("name", "status", "started_at", "finished_at", "error_code", "message", "log_tail")


class OfEnvironment(ReadOnlyAdmin):
    """What belongs to an environment, with its service named."""

    service_path = "environment__service"
    list_filter: Any = (only("environment__service"), by_slug("environment"))

    @display(description="service", ordering="environment__service__slug")
    def show_service(self, row: Deployment | Occupancy) -> str:
        return row.environment.service.slug


@admin.register(Deployment)
class DeploymentAdmin(OfEnvironment):
    list_display = (
        "__str__",
        "show_service",
        "environment",
        "release",
        "show_status",
        "origin",
        "created_at",
        "finished_at",
        "error_code",
    )
    list_filter = (*OfEnvironment.list_filter, "status", "origin")
    list_select_related = ("environment__service", "release")
    search_fields = ("=codedeploy_id", "release__version")
    fields = (
        "show_service",
        "environment",
        "release",
        "status",
        "origin",
        "show_origin",
        "creator",
        "description",
        "revision",
        "codedeploy_id",
        "intent",
        "error_code",
        "error_message",
        "created_at",
        "asked_at",
        "started_at",
        "finished_at",
    )
    change_form_before_template = "deployments/deployment_before.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        return super().get_queryset(request).defer("release__manifest", "release__steps")

    def page_context(self, request: HttpRequest, deployment: Deployment) -> dict[str, Any]:
        return story(deployment)

    @display(description="status", label=LABELS, ordering="status")
    def show_status(self, deployment: Deployment) -> str:
        return deployment.status

    @display(description="what it is")
    def show_origin(self, deployment: Deployment) -> str:
        return origin_in_words(deployment) or "What a promotion asked for."


@admin.register(Target)
class TargetAdmin(ReadOnlyAdmin):
    service_path = "deployment__environment__service"
    list_display = ("target_id", "deployment", "show_status", "updated_at")
    list_filter = (only("deployment__environment__service"), by_slug("deployment__environment"))
    list_select_related = ("deployment",)
    ordering = ("-id",)
    search_fields = ("=target_id", "=deployment__codedeploy_id")
    fields = ("deployment", "target_id", "status", "updated_at")
    inlines = (HookEventInline,)

    @display(description="status", label=LABELS, ordering="status")
    def show_status(self, target: Target) -> str:
        return target.status


@admin.register(HookEvent)
class HookEventAdmin(ReadOnlyAdmin):
    service_path = "target__deployment__environment__service"
    list_display = (
        "name",
        "target",
        "show_deployment",
        "show_status",
        "started_at",
        "finished_at",
        "error_code",
    )
    # No filters: without choices of their own they would read the whole table for them.
    search_fields = ("=name", "=status", "=target__target_id", "=target__deployment__codedeploy_id")
    list_select_related = ("target__deployment",)
    list_defer = ("script", "message", "log_tail")
    ordering = ("-id",)

    @display(description="deployment")
    def show_deployment(self, event: HookEvent) -> str:
        return str(event.target.deployment)

    @display(description="status", label=LABELS, ordering="status")
    def show_status(self, event: HookEvent) -> str:
        return event.status


@admin.register(Occupancy)
class OccupancyAdmin(OfEnvironment):
    list_display = ("environment", "show_service", "release", "since", "until", "deployment")
    # As they began, by the index that there is.
    ordering = ("-id",)
    list_select_related = ("environment__service", "release", "deployment")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Occupancy]:
        return super().get_queryset(request).defer("release__manifest", "release__steps")
