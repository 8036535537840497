"""How this database came to its state: reading only, and for superusers, since it is of no service."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from apps.admin_base import LABELS, ReadOnlyAdmin, pretty
from apps.rollout.models import MigrationRun


@admin.register(MigrationRun)
class MigrationRunAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "host", "deployment_id", "show_result", "show_count", "seconds")
    list_filter = ("result",)
    search_fields = ("=host", "=deployment_id", "digest__startswith")
    search_help_text = "A host, a CodeDeploy deployment, or the beginning of a bundle's digest."
    ordering = ("-id",)
    list_defer = ("error",)
    fields = (
        "host",
        "deployment_id",
        "digest",
        "show_result",
        "started_at",
        "finished_at",
        "seconds",
        "error",
        "cause",
        "show_plan",
        "show_applied",
    )

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_superuser

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.is_active and request.user.is_superuser

    def visible(self, queryset: QuerySet[MigrationRun], user: Any) -> QuerySet[MigrationRun]:
        return queryset.none()

    @display(description="result", label=LABELS, ordering="result")
    def show_result(self, run: MigrationRun) -> str:
        return run.result

    @display(description="applied")
    def show_count(self, run: MigrationRun) -> str:
        return f"{len(run.applied)} of {len(run.plan)}"

    @display(description="plan")
    def show_plan(self, run: MigrationRun) -> str:
        return pretty(run.plan)

    @display(description="applied")
    def show_applied(self, run: MigrationRun) -> str:
        return pretty(run.applied)
