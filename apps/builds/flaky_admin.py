"""Flaky, broken and quarantined test cases in the admin."""

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import display

from apps.admin_base import LABELS, ReadOnlyAdmin, only
from apps.builds.models import CaseState, Quarantine


@admin.register(CaseState)
class CaseStateAdmin(ReadOnlyAdmin):
    list_display = (
        "case",
        "service",
        "group",
        "show_state",
        "show_score",
        "show_runs",
        "commits",
        "since",
        "show_quarantine",
    )
    list_filter = (only("service"), "state", only("group"))
    list_select_related = ("case", "service", "group")
    search_fields = ("case__name", "case__class_name", "group__name")
    ordering = ("-id",)
    fields = (
        "case",
        "service",
        "group",
        "show_state",
        "show_score",
        "runs",
        "failures",
        "transitions",
        "commits",
        "since",
        "report",
        "show_quarantine",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[CaseState]:
        in_force = Quarantine.objects.in_force().filter(case=OuterRef("case"))
        # What may be done about a gate lies above this app, so its page is known by its model alone.
        may = self.admin_site.get_model_admin(Quarantine).has_add_permission(request)
        states = super().get_queryset(request)
        return states.annotate(until=Subquery(in_force.values("until")[:1]), may_quarantine=Value(may))

    @display(description="state", label=LABELS, ordering="state")
    def show_state(self, state: CaseState) -> str:
        return state.state

    @display(description="score", ordering="score")
    def show_score(self, state: CaseState) -> str:
        return "too few runs" if state.score is None else f"{state.score / 1000:.2f}"

    @display(description="failed")
    def show_runs(self, state: CaseState) -> str:
        return f"{state.failures} of {state.runs}"

    @display(description="quarantined until", ordering="until")
    def show_quarantine(self, state: Any) -> str:
        if state.until:
            return f"{state.until:%Y-%m-%d %H:%M} UTC"
        if not state.may_quarantine:
            return "-"
        form = f"{reverse('admin:builds_quarantine_add')}?case={state.case_id}"
        return format_html('<a class="text-link" href="{}">quarantine it</a>', form)
