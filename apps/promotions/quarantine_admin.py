"""Quarantined test cases in the admin: made by a form, ended by a button, through the services."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.decorators import action, display

from apps.access.permissions import acting_user
from apps.admin_base import CommentForm, dialog, only
from apps.builds.models import Quarantine, QuarantineQuerySet
from apps.errors import Invalid
from apps.promotions.hold_admin import HoldAdmin
from apps.promotions.quarantine import (
    KEEPERS,
    check_end,
    check_reason,
    lift_quarantine,
    quarantine_case,
)


class QuarantineForm(forms.ModelForm):
    """What the service would refuse is said beside the field, with nothing lost of what was typed."""

    class Meta:
        model = Quarantine
        fields = ("case", "reason", "until")

    def clean_reason(self) -> str:
        with _as_field_error():
            return check_reason(self.cleaned_data["reason"])

    def clean_until(self) -> datetime:
        until: datetime = self.cleaned_data["until"]
        with _as_field_error():
            check_end(until, timezone.now())
        return until


@contextmanager
def _as_field_error() -> Iterator[None]:
    try:
        yield
    except Invalid as error:
        raise forms.ValidationError(str(error)) from error


@admin.register(Quarantine)
class QuarantineAdmin(HoldAdmin):
    """A person's word, which is not changed or deleted afterwards."""

    form = QuarantineForm
    roles = KEEPERS
    form_fields = ("case", "reason", "until")
    service_path = "case__service"
    list_display = ("case", "show_service", "reason", "by", "created_at", "until", "in_force")
    list_filter = (only("case__service"),)
    list_select_related = ("case__service", "by")
    search_fields = ("case__name", "case__class_name", "by__username")
    autocomplete_fields = ("case",)

    def save_model(self, request: HttpRequest, obj: Quarantine, form: Any, change: bool) -> None:
        made = quarantine_case(case=obj.case, user=acting_user(request), reason=obj.reason, until=obj.until)
        obj.pk = made.pk

    @action(
        description="Lift",
        permissions=["lift"],
        icon="undo",
        dialog=dialog(
            "Lift this quarantine?", "The test's failures count again at once.", "Lift it", CommentForm
        ),
    )
    def lift(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        return self.lift_and_say(request, form, object_id)

    def not_lifted(self, rows: Any) -> QuarantineQuerySet:
        return rows.in_force()

    def lift_one(self, request: HttpRequest, object_id: str, comment: str) -> str:
        quarantine = self.get_queryset(request).select_related("case__service").get(pk=object_id)
        lift_quarantine(quarantine=quarantine, user=acting_user(request), comment=comment)
        return f"Lifted: {quarantine}."

    @display(description="service")
    def show_service(self, quarantine: Quarantine) -> str:
        return quarantine.case.service.slug

    @display(description="in force", boolean=True)
    def in_force(self, quarantine: Quarantine) -> bool:
        return quarantine.in_force
